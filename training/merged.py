"""LoRA layers trained in their merged weight: W + s·B·A is multiplied once, as in a model without LoRA.

peft adds s·B(Ax) to Wx for every token: two thin products, a sum and casts in each of some hundred layers, which cost a
CPU as much as the layers themselves. The merged weight is made anew after each step; the gradients of A and B are those
of the sum, up to the rounding of the merged weight, as in any training with weights of half precision.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable


def train_merged(model: Any, dtype: torch.dtype) -> None:
    """Have every LoRA layer of a peft model multiply its merged weight of `dtype`; A and B stay in float32."""
    from peft.tuners.lora import Linear

    for weight in model.parameters():  # not the buffers: the angles of the positions need all their digits
        weight.data = weight.data.to(torch.float32 if weight.requires_grad else dtype)
    for module in model.modules():
        if isinstance(module, Linear) and type(module.base_layer) is torch.nn.Linear:
            module.forward = _Merged(module, dtype)  # type: ignore[method-assign]


class _Merged:
    """What one layer does instead of peft's forward."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        (name,) = layer.active_adapters
        self.base, self.scale, self.dtype = layer.base_layer, float(layer.scaling[name]), dtype
        self.a, self.b = layer.lora_A[name], layer.lora_B[name]
        self.made_of: tuple[int, int] | None = None

    def __call__(self, x: Any) -> Any:
        a, b = self.a.weight, self.b.weight
        if self.made_of != (versions := (a._version, b._version)):
            with torch.no_grad():
                self.low = a.to(self.dtype), b.to(self.dtype)
                low_a, low_b = self.low
                self.weight = torch.addmm(self.base.weight, low_b, low_a, alpha=self.scale)
            self.made_of = versions
        made = _Product.apply(x, a, b, self.weight, *self.low, self.scale)  # type: ignore[no-untyped-call]
        return made if self.base.bias is None else made + self.base.bias


class _Product(torch.autograd.Function):
    """x Wᵀ with the gradients of A (r, in) and B (out, r), where W = base + scale·B·A, given as `weight`."""

    @staticmethod
    def forward(ctx: Any, x: Any, _a: Any, _b: Any, weight: Any, low_a: Any, low_b: Any, scale: float) -> Any:
        ctx.save_for_backward(x, weight, low_a, low_b)
        ctx.scale = scale
        return torch.nn.functional.linear(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight, a, b = ctx.saved_tensors
        of_x = grad @ weight if ctx.needs_input_grad[0] else None
        flat, inputs = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        of_a = (flat @ b).t() @ inputs
        of_b = ((inputs @ a.t()).t() @ flat).t()  # the wide ones as they lie: a transposed one would be copied
        return of_x, of_a.float() * ctx.scale, of_b.float() * ctx.scale, None, None, None, None
