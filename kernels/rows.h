/* What one step of decoder.c reads and writes; kernels/decoder_structs.py has the same. */
#pragma once
#include <stdint.h>

struct rows {
    int64_t num_rows, num_logit_rows;
    const int64_t *token_ids, *logit_rows;
    const int32_t *row_position, *row_sequence, *block_table;
    const int32_t *first;      /* (num_rows) or NULL: the rows of trees, */
    const uint64_t *ancestors; /* as paged_attention.c has them */
    const int64_t *write_block, *write_offset;
    float *logits;  /* (num_logit_rows, vocab_size) */
    void *hidden;   /* (num_logit_rows, hidden_size) behind the final norm */
    char *taps;     /* (num_rows, num_taps, hidden_size) the residual stream before tapped layers and what is behind
                       the final norm, or NULL */
    char *scratch;  /* outrider_decoder_scratch bytes */
};
