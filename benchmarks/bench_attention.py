"""Seconds and memory of training steps with either attention, as ratios within one run.

Torch's fused attention (``sdpa``) against transformers' own (``eager``) on the same batches, with
the dropout of the backbone: a forward and a backward pass of the backbone alone.

    python benchmarks/bench_attention.py [--backbone minilm] [--lengths 64,128,256] [--dropout 0]
"""

import argparse

import torch
from timing import medians, peak

from hyperlm.lm.backbone import load_backbone
from hyperlm.training import resolve_precision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--lengths", default="64,128,256")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--dropout", type=float, help="of BERT's attention, in place of its own")
    args = parser.parse_args()

    device = torch.device("cpu")
    precision = resolve_precision(args.precision, device)
    backbone, _ = load_backbone(args.backbone)
    backbone.train()
    if args.dropout is not None:
        for module in backbone.modules():
            if type(module).__name__ == "BertSelfAttention":
                module.dropout.p = args.dropout
    print(
        f"{args.backbone}, {precision}, {args.batch_size} texts, {torch.get_num_threads()} threads"
    )
    print(f"{'tokens':>6}  {'sdpa':>8}  {'eager':>8}  {'seconds':>8}  {'memory':>8}")
    for length in map(int, args.lengths.split(",")):
        ids = torch.randint(999, backbone.config.vocab_size, (args.batch_size, length))
        mask = torch.ones_like(ids)
        mask[::2, -length // 10 :] = 0  # half of the texts are shorter, as in a batch of texts

        def step(kind: str, ids: torch.Tensor = ids, mask: torch.Tensor = mask) -> None:
            backbone.set_attn_implementation(kind)
            with torch.autocast("cpu", precision, enabled=precision != torch.float32):
                states = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
            states.float().mean().backward()
            backbone.zero_grad()

        contestants = {kind: lambda kind=kind: step(kind) for kind in ("sdpa", "eager")}
        seconds = medians(contestants, args.steps)
        memory = {kind: peak(function) for kind, function in contestants.items()}
        print(
            f"{length:6d}  {seconds['sdpa']:6.3f} s  {seconds['eager']:6.3f} s  "
            f"{seconds['eager'] / seconds['sdpa']:8.2f}  {memory['eager'] / memory['sdpa']:8.2f}"
        )


if __name__ == "__main__":
    main()
