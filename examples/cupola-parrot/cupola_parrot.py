"""An execution provider that repeats its prompt. It has no model, but implements the whole contract."""

import random

from cupola import errors, provider


class Letters(provider.Tokenizer):
    """A token is the code point of a character. The class is its own decoder: every character is one token."""

    def render(self, prompt: provider.ChatPrompt) -> list[int]:
        return self.encode(prompt.messages[-1].content)

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def stream(self, *, special: bool = False) -> "Letters":
        return self

    def push(self, token: int) -> str:
        return chr(token)

    def flush(self) -> str:
        return ""


class ParrotSession(provider.Session):
    kind, reason, capacity, context_length = "generator", "a parrot says one thing at a time", 1, 1024

    def __init__(self, prefill_chunk: int) -> None:
        self.tokenizer, self.chunk = Letters(), prefill_chunk

    def check(self, turn: provider.Turn) -> None:
        if turn.guidance or turn.top_logprobs is not None or turn.min_tokens or turn.stop_token_ids:
            raise errors.RequestError(detail="A parrot cannot use guidance, logprobs, min_tokens or stop_token_ids.")
        if not turn.prompt or not all(0 <= token <= 0x10FFFF for token in turn.prompt):
            raise errors.RequestError(detail="A parrot needs a prompt to repeat. Send at least one character.")

    def admit(self, turn: provider.Turn) -> None:
        self.turn, self.read, self.said = turn, 0, 0

    def step(self) -> list[provider.TokenEvent]:
        turn, prompt = self.turn, self.turn.prompt
        if self.read < len(prompt):  # the prefill, a chunk at a time
            self.read += self.chunk
            return [provider.TokenEvent(turn.id)]
        token = prompt[self.said % len(prompt)]
        if turn.sampling.temperature:  # an excited parrot
            token = random.Random(f"{turn.sampling.seed} {self.said}").choice(prompt)
        self.said += 1
        ends = self.said == len(prompt) and not turn.ignore_eos
        finish = "length" if self.said == turn.max_tokens else "stop" if ends else None
        return [provider.TokenEvent(turn.id, (token,), finish)]

    def cancel(self, turn_id: int) -> None:
        """Do nothing: a cancelled turn gets no further steps."""


class ParrotProvider(provider.ExecutionProvider):
    name = "ParrotExecutionProvider"
    device_types = ("CPU",)

    def probe(self) -> provider.ProviderReport:
        return provider.ProviderReport(self.name, (provider.Device(self.name, "CPU", "a grey parrot"),))

    def load(
        self, model: provider.ModelFiles, device: provider.Device, options: object, limits: provider.Limits
    ) -> ParrotSession:
        if not (model.path / "genai_config.json").exists():
            raise errors.LoadError(model=model.id, detail="there is no genai_config.json")
        return ParrotSession(limits.prefill_chunk)


@provider.hookimpl
def execution_providers(settings: provider.Settings) -> list[provider.ExecutionProvider]:
    return [ParrotProvider()]
