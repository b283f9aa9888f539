"""What is needed to go on with a request on another engine, from the exact position."""

import msgspec

from outrider.engine.protocol import Submit, TokenDelta


class Continuation:
    """One request, and the tokens that its client has been given. Times are monotonic seconds.

    An engine draws each token by seed and position alone, and takes prompt and emitted tokens apart: penalties,
    lengths, grammar and speculation go on as if nothing had been.
    """

    def __init__(self, submit: Submit, now: float) -> None:
        self._submit = submit
        self._started = now
        self._output_ids: list[int] = []
        self._has_prompt_logprobs = False
        self.num_resumes = 0

    @property
    def num_output_tokens(self) -> int:
        """How many have been given."""
        return len(self._output_ids)

    def add(self, delta: TokenDelta) -> None:
        """Notes what an engine emitted."""
        self._output_ids += delta.token_ids
        self._has_prompt_logprobs = self._has_prompt_logprobs or bool(delta.prompt_logprobs)

    def submit(self, now: float) -> Submit:
        """What the next engine is sent.

        A resumed request has an id of its own: the engine before may not have noticed yet that it has lost the first.
        """
        if not self.num_resumes:
            return self._submit
        params = self._submit.params
        if params.max_time is not None:
            params = msgspec.structs.replace(params, max_time=max(0.0, params.max_time - (now - self._started)))
        if self._has_prompt_logprobs:
            params = msgspec.structs.replace(params, num_prompt_logprobs=None)
        return msgspec.structs.replace(
            self._submit,
            request_id=f"{self._submit.request_id}.{self.num_resumes}",
            params=params,
            output_ids=[*self._submit.output_ids, *self._output_ids],
        )
