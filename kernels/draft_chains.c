/* Chains of drafted tokens: a small decoder goes on from its own choices, many times, without returning to Python.
 *
 * Between two passes of the decoder there is one draw for each chain, and rows of chains that have ended fall out.
 */
#include <string.h>
#include "draw.h"
#include "rows.h"

enum { NONE = -1 };

typedef void run_decoder(const void *decoder, const struct rows *rows, int64_t num_threads);
typedef int sample_several(float *logits, const struct draw *draws, int64_t count, int64_t *tokens, float *chances,
                           int64_t num_rows, int64_t vocab_size, int64_t num_threads);

struct chains {
    int64_t num_chains, max_tokens, count; /* choices at each place, of which the first goes on */
    float min_probability;                 /* of a whole chain, for it to go on */
    const int64_t *most; /* (num_chains) tokens, at most max_tokens */
    int64_t *tokens; /* (num_chains, max_tokens, count), NONE where there is no choice */
    float *chances;  /* likewise, as sample_several gives them */
    struct draw *draws; /* (num_chains) of the first token; overwritten */
    /* Of the decoder's rows, one for each chain: what moves up when chains end. */
    int64_t *token_ids, *write_block, *write_offset;
    int32_t *row_position, *block_table; /* the newest place that is read; (num_chains, max_blocks) */
    int64_t block_size, max_blocks, vocab_size;
};

/* `rows` holds logits (num_chains, vocab_size) behind the newest places. Returns 0, or -1 without memory. */
int outrider_draft_chains(run_decoder *run, sample_several *several, const void *decoder, struct rows *rows,
                          struct chains *c, int64_t num_threads) {
    int64_t active[c->num_chains], next[c->num_chains * c->count], num_active = c->num_chains;
    float chance[c->num_chains * c->count], probability[c->num_chains];
    for (int64_t chain = 0; chain < c->num_chains; chain++) active[chain] = chain, probability[chain] = 1.0f;
    for (int64_t depth = 0; num_active > 0 && depth < c->max_tokens; depth++) {
        if (several(rows->logits, c->draws, c->count, next, chance, num_active, c->vocab_size, num_threads)) return -1;
        int64_t kept = 0;
        for (int64_t row = 0; row < num_active; row++) {
            const int64_t chain = active[row], at = (chain * c->max_tokens + depth) * c->count;
            memcpy(c->tokens + at, next + row * c->count, (size_t)c->count * sizeof *next);
            memcpy(c->chances + at, chance + row * c->count, (size_t)c->count * sizeof *chance);
            if (next[row * c->count] == NONE) continue; /* no numbers */
            probability[chain] *= chance[row * c->count];
            if (depth + 1 >= c->most[chain] || probability[chain] < c->min_probability) continue;
            int32_t *table = c->block_table + kept * c->max_blocks;
            if (kept != row) {
                memcpy(table, c->block_table + row * c->max_blocks, (size_t)c->max_blocks * sizeof *table);
                c->draws[kept] = c->draws[row];
            }
            const int32_t place = c->row_position[row] + 1;
            active[kept] = chain;
            c->draws[kept].position++;
            c->token_ids[kept] = next[row * c->count];
            c->row_position[kept] = place;
            c->write_block[kept] = table[place / c->block_size];
            c->write_offset[kept] = place % c->block_size;
            kept++;
        }
        num_active = rows->num_rows = rows->num_logit_rows = kept;
        if (kept) run(decoder, rows, num_threads);
    }
    return 0;
}
