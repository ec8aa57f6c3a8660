"""An outline, then a text: two levels of free text, the plan said by a lower layer.

From the name of a class a decoder first says a plan, the four rarest words of a sentence in the
order in which they will come, and then the sentence. As it stands it trains a small random
decoder on the demo set, which shows every step in some twenty seconds on one core and learns
little more than which words there are::

    python examples/outline.py

With a pretrained decoder the sentences follow their plans (docs/hierarchical-decoding.md)::

    python examples/outline.py --backbone smollm2 --layers 20,30 --lora 16 --steps 120 \\
        --batch-size 8 --learning-rate 5e-4 --output runs/outline
    hyperlm generate runs/outline --text Lighthouse

Three figures tell what was learnt, all on test: the perplexity of the plans, that of the sentences
after their own plans, and that of the sentences after the plan of another sentence. Were a plan of
no use to the sentence, the last two would be equal.
"""

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from hyperlm import load_data
from hyperlm.classifier_text import answer_log_probs
from hyperlm.lm.decoder import HierarchicalDecoder
from hyperlm.lm.hdlm import SequenceCollator
from hyperlm.quiet import quiet_libraries
from hyperlm.text_metrics import perplexity

PLANNED = 4  # words of an outline


def sentences(split: str) -> tuple[list[str], list[str]]:
    """The last label and the first sentence of every text of the demo set."""
    texts = load_data("demo").split(split)
    topics = [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", path[-1]) for (path,) in texts.paths]
    return topics, [re.split(r"(?<=[.!?;:]) ", text)[0] for text in texts.texts]


def outline(sentence: str, texts_with: Counter[str]) -> str:
    """The rarest of the longer words of a sentence, in the order in which they stand."""
    words = list(dict.fromkeys(re.findall(r"\w{4,}", sentence)))
    rarest = sorted(words, key=lambda word: texts_with[word.lower()])[:PLANNED]
    return ", ".join(word for word in words if word in rarest)


def small_decoder(texts: Sequence[str], folder: Path) -> Path:
    """A random decoder of three layers, with a tokenizer made from the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=pieces, eos_token="<end>", bos_token="<end>", pad_token="<end>"
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=pieces.get_vocab_size(),
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def figures(
    model: HierarchicalDecoder, topics: Sequence[str], plans: Sequence[str], said: Sequence[str]
) -> dict[str, float]:
    """Perplexity of plans, and of sentences after their own and after another sentence's plan."""
    other = [*plans[len(plans) // 2 :], *plans[: len(plans) // 2]]
    own, crossed = (
        answer_log_probs(
            model, topics, None, [list(pair) for pair in zip(of, said, strict=True)], 8
        )
        for of in (plans, other)
    )
    return {
        "outline": perplexity(own[0]) or 0.0,
        "text after its outline": perplexity(own[1]) or 0.0,
        "text after another outline": perplexity(crossed[1]) or 0.0,
    }


def main(
    backbone: str | None = None,
    layers: str = "2,3",
    lora: int | None = None,
    steps: int = 150,
    batch_size: int = 16,
    learning_rate: float = 3e-3,
    seed: int = 0,
    output: str | None = None,
) -> dict[str, float]:
    """Train, print figures and answers, perhaps save; gives back the figures on test."""
    torch.manual_seed(seed)
    topics, said = sentences("train")
    texts_with = Counter(word for text in said for word in set(re.findall(r"\w{4,}", text.lower())))
    plans = [outline(text, texts_with) for text in said]
    test_topics, test_said = sentences("test")
    test_plans = [outline(text, texts_with) for text in test_said]

    with tempfile.TemporaryDirectory() as folder:
        name = backbone or str(small_decoder([*topics, *said], Path(folder)))
        # No taxonomy: both levels are free text. Layers from coarse to fine, as for labels.
        model = HierarchicalDecoder.from_backbone(
            name,
            None,
            text_levels=2,
            layers=layers,
            lora={"rank": lora} if lora else None,
            max_length=32,
            cue="\nOutline:",
            level_names=["outline", "text"],
        )
    examples = model.format.examples(
        topics, replies=[[plan, text] for plan, text in zip(plans, said, strict=True)]
    )
    collate = SequenceCollator(model.tokenizer.pad_token_id)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate)
    model.train()
    for step in range(1, steps + 1):
        rows = torch.randint(len(examples), (batch_size,)).tolist()
        out = model(**collate([examples[row] for row in rows]))
        optimizer.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps:
            first, second = out.level_losses.tolist()
            print(f"step {step:4d}  loss of outline {first:.3f}, of text {second:.3f}")

    model.eval()
    results = figures(model, test_topics, test_plans, test_said)
    for what, value in results.items():
        print(f"perplexity of {what}: {value:.2f}")
    asked = test_topics[:: max(1, len(test_topics) // 3)][:3]
    for topic, (answer, *_) in zip(asked, model.answer(asked).best, strict=True):
        print(f"{topic}")
        for layer, words in zip(model.layers, answer.words, strict=True):
            print(f"  layer {layer}: {words}")
    if output is not None:
        model.save_pretrained(output)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", help="short name, folder or hub id; a random one by default")
    parser.add_argument("--layers", default="2,3", help="of outline and text")
    parser.add_argument("--lora", type=int)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", help="folder to save the model in")
    quiet_libraries()
    main(**vars(parser.parse_args()))
