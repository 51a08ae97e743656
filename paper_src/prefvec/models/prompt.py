"""From a question to token ids: chat template, or in-context examples for a base model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prefvec.errors import ConfigError
from prefvec.store import canonical_hash

# A neutral system message, given explicitly: templates add their own default when there is none.
NEUTRAL_SYSTEM = "You are a helpful assistant."
END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")


class Example(NamedTuple):
    """One in-context question with its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class PromptFormat:
    """How a model is asked. `kind` is `chat` (its template) or `examples` (plain text)."""

    kind: str
    tokenizer: object
    stop_ids: frozenset[int]
    stop_strings: tuple[str, ...]

    @classmethod
    def for_model(cls, spec, tokenizer, generation_config) -> "PromptFormat":
        """The registry's format for the model, else chat if the tokenizer has a template."""
        kind = spec.prompt or ("chat" if tokenizer.chat_template else "examples")
        if kind == "chat" and not tokenizer.chat_template:
            raise ConfigError(
                f"model '{spec.id}' has no chat template: set `prompt: examples` in data/models.yaml"
            )
        eos = generation_config.eos_token_id
        ids = set(eos if isinstance(eos, list) else [eos]) | {tokenizer.eos_token_id}
        vocabulary = tokenizer.get_vocab()
        ids |= {vocabulary[token] for token in END_TOKENS if token in vocabulary}
        stops = ("\nQuestion:", "\n\n") if kind == "examples" else ()
        return cls(kind, tokenizer, frozenset(ids - {None}), stops)

    @property
    def digest(self) -> str:
        """Short hash of the template and format (16 hex digits)."""
        template = self.tokenizer.chat_template if self.kind == "chat" else "Question/Answer 1"
        return canonical_hash([self.kind, template, NEUTRAL_SYSTEM])[:16]

    def render(
        self, question: str, system: str | None = None, examples: Sequence[Example] = ()
    ) -> str:
        """The prompt as text, without a BOS token, ending where the answer begins.

        `system` None means the neutral message (chat) or none (base). Examples become earlier
        turns (chat) or question/answer pairs before the question (base).
        """
        if self.kind == "chat":
            messages = [{"role": "system", "content": system or NEUTRAL_SYSTEM}]
            for example in examples:
                messages.append({"role": "user", "content": example.question})
                messages.append({"role": "assistant", "content": example.answer})
            messages.append({"role": "user", "content": question})
            return self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        parts = [f"{system}\n\n"] if system else []
        parts += [f"Question: {e.question}\nAnswer: {e.answer}\n\n" for e in examples]
        return "".join(parts) + f"Question: {question}\nAnswer:"

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered prompt, with BOS where the model wants one."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        bos = self.tokenizer.bos_token_id
        if self.kind == "examples" and bos is not None and ids[:1] != [bos]:
            ids = [bos, *ids]
        return ids

    def cut(self, text: str) -> tuple[str, bool]:
        """Text up to the first stop string, and whether there was one."""
        found = [text.find(stop) for stop in self.stop_strings]
        found = [at for at in found if at >= 0]
        return (text[: min(found)], True) if found else (text, False)
