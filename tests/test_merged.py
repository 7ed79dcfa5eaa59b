"""Training computes faster than peft and PyTorch's attention would, and the same."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from artrag.training import attention  # noqa: E402
from artrag.training.attention import blocks_of, seen, with_blocks  # noqa: E402
from artrag.training.branches import branches_loss, laid  # noqa: E402
from artrag.training.lora import add_lora  # noqa: E402
from artrag.training.merged import train_merged  # noqa: E402

ROW = ((1, 2, 3, 7, 8, 9, 4), (4, 5), (6, 7), (9,), (8, 3, 3), (9, 9, 9), (3, 2, 1, 0))


def model() -> Any:
    """Two layers whose four heads share two keys, with LoRA weights that are not nothing."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = LlamaConfig(
        vocab_size=50, num_attention_heads=4, num_key_value_heads=2, attention_bias=True, mlp_bias=True, **size
    )
    made = add_lora(LlamaForCausalLM(config), 3, "CAUSAL_LM")
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return made


def gradients(learner: Any, loss: Any) -> list[Any]:
    loss.backward()
    found = [weight.grad for weight in learner.parameters() if weight.requires_grad]
    learner.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("rows", [1, 5, 40, 256])
def test_blocks_attend_as_the_whole_would(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = model()
    learner.set_attn_implementation("eager")
    known = branches_loss(learner, [ROW], "cpu")
    wanted = gradients(learner, known)
    monkeypatch.setattr(attention, "ROWS", rows)
    with_blocks(learner)
    found = branches_loss(learner, [ROW], "cpu")
    torch.testing.assert_close(found, known)
    for one, other in zip(gradients(learner, found), wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_other_attention_than_the_plain_one_is_left_as_it_is() -> None:
    learner = model()
    learner.config.sliding_window = 2
    with_blocks(learner)
    assert learner.config._attn_implementation == "sdpa"
    one = laid(ROW, "cpu")
    assert list(seen(learner, one.sees, one.trunk, one.start)) == ["attention_mask"]


def test_blocks_end_where_the_branches_begin() -> None:
    one = laid(ROW, "cpu")
    blocks = blocks_of(one.sees, one.trunk, one.start, torch.float32)
    assert [(block.start, block.end, block.fully) for block in blocks] == [(0, 64, 0), (64, 128, 7)]
    assert blocks[1].mask.shape == (64, 121) and (blocks[1].mask == 0).tolist() == one.sees[64:, 7:].tolist()


def test_a_merged_weight_learns_as_peft_does() -> None:
    learner, merged = model(), model()
    train_merged(merged, torch.float32)
    optimizers = [
        torch.optim.AdamW([p for p in one.parameters() if p.requires_grad], lr=0.05) for one in (learner, merged)
    ]
    for one in (learner, merged):
        with_blocks(one)
    losses = []
    for _ in range(3):
        found = [branches_loss(one, [ROW, ROW], "cpu") for one in (learner, merged)]
        torch.testing.assert_close(found[1], found[0])
        losses.append(float(found[0].detach()))
        for loss in found:
            loss.backward()
        for one, other in zip(learner.parameters(), merged.parameters(), strict=True):
            assert (one.grad is None) is (other.grad is None) is not one.requires_grad
            if one.grad is not None:
                torch.testing.assert_close(other.grad, one.grad)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    assert losses[2] < losses[0]


def test_half_precision_stays_near_and_its_weights_are_kept_whole() -> None:
    learner, merged = model(), model()
    for one in (learner, merged):
        with_blocks(one)
    train_merged(merged, torch.bfloat16)
    assert {weight.dtype for weight in merged.parameters() if weight.requires_grad} == {torch.float32}
    assert {weight.dtype for weight in merged.parameters() if not weight.requires_grad} == {torch.bfloat16}
    assert {buffer.dtype for buffer in merged.buffers()} == {torch.float32}  # angles of the positions
    wanted, found = (
        torch.cat([g.flatten() for g in gradients(m, branches_loss(m, [ROW], "cpu"))]) for m in (learner, merged)
    )
    assert float(torch.cosine_similarity(wanted, found, 0)) > 0.99


def test_a_merged_weight_follows_what_is_put_into_it() -> None:
    merged = model()
    with_blocks(merged)
    train_merged(merged, torch.float32)
    with torch.no_grad():
        before = float(branches_loss(merged, [ROW], "cpu"))
        for name, weight in merged.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.zeros_like(weight))
        without = float(branches_loss(merged, [ROW], "cpu"))
    assert before != pytest.approx(without)
