"""The arithmetic behind :mod:`hyperlm.manifolds.polar`, as operators that torch can trace.

In: tangent vectors at the origin in Riemannian length. Out: geodesic distances and their
gradients. With lengths scaled by ``s = sqrt(c)``, radii ``a, b``, unit directions ``p, q``::

    X = sinh((a - b)/2)^2 + sinh(a) sinh(b) |p - q|^2 / 4      dist = 2 asinh(sqrt(X)) / s

Two evaluations of X meet here. The fast one takes ``|p - q|^2 = 2 - 2 p.q`` from one matrix
product in float64; what it loses is about ``1e-15 sinh(a) sinh(b)``, which matters only where X
itself is that small. Those few pairs are done again, pair by pair, with nothing that cancels.
How many there are depends on the data, so both live in custom operators: opaque to
``torch.compile`` and ``torch.export``, with the gradients below, which are exact too. The work goes
in tiles, so that the float64 intermediates stay in cache and memory stays small.

float64 inside costs little on a CPU (the elementwise part is bound by memory and the tiles are
small) and makes results correct to the last float32 digit even where directions crowd together.
"""

import torch
from torch import Tensor

__all__ = ["RADIUS_CAP", "paired", "pairwise"]

RADIUS_CAP = 170.0
"""Radii (times sqrt(c)) are taken to be at most this: X**2 must stay below the float64 maximum."""

_TILE = 1 << 15  # elements of the result per tile: 256 KiB of float64 each on a CPU
_TILE_DEVICE = 1 << 24
_PAIR_ELEMENTS = 1 << 17  # pairs times dimension handled at once by the exact path

# Largest relative error in X that the matrix product may leave, by dtype of the result.
_TOLERANCE = {torch.float32: 1e-7, torch.float64: 1e-11}


def _wide(device: torch.device) -> torch.dtype:
    """float64, except on Apple's devices, which have none."""
    return torch.float32 if device.type == "mps" else torch.float64


def _polar(u: Tensor) -> tuple[Tensor, Tensor]:
    """Radii ``(n, 1)``, capped, and unit directions ``(n, d)``; zero for a zero vector."""
    radius = torch.linalg.vector_norm(u, dim=-1, keepdim=True)
    direction = u / torch.where(radius > 0, radius, 1)
    return torch.where(radius > RADIUS_CAP, RADIUS_CAP, radius), direction


def _asinh_twice(x: Tensor) -> Tensor:
    """``2 asinh(sqrt(x))`` through log1p, which torch vectorises; all terms are positive."""
    return torch.log1p(2 * (x + torch.sqrt(x * (1 + x))))


def _or_one(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1)


class _Pairs:
    """Rows ``u[i], v[i]`` compared without cancellation; ``u, v`` are wide and scaled by s."""

    def __init__(self, u: Tensor, v: Tensor) -> None:
        self.a, self.p = _polar(u)  # (n, 1), (n, d)
        self.b, self.q = _polar(v)
        a, b = self.a, self.b
        # a - b from the difference of the vectors: accurate relative to |u - v|, not to a.
        w = u - v
        delta = (w * (u + v)).sum(-1, keepdim=True) / torch.where(a + b > 0, a + b, 1)
        capped = (a >= RADIUS_CAP) | (b >= RADIUS_CAP)
        self.delta = torch.where(capped, a - b, delta)
        # p - q = (w - q delta)/a = (w - p delta)/b: the larger radius divides.
        larger = torch.maximum(a, b)
        other = torch.where(a >= b, self.q, self.p)
        gap = (w - other * delta) / torch.where(larger > 0, larger, 1)
        self.gap = torch.where(capped, self.p - self.q, gap)
        self.chord = (self.gap * self.gap).sum(-1, keepdim=True)  # |p - q|^2
        half = torch.sinh(self.delta / 2)
        self.x = half * half + torch.sinh(a) * torch.sinh(b) * self.chord / 4  # (n, 1)

    def distance(self) -> Tensor:
        return _asinh_twice(self.x).squeeze(-1)

    def gradient(self, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients for u, v, and ``sum(grad (a dD/da + b dD/db))``; ``grad`` is ``(n,)``."""
        a, b, p, q, x = self.a, self.b, self.p, self.q, self.x
        sinh_dist = 2 * torch.sqrt(x * (1 + x))
        # At coincidence the distance has no gradient; zero is the symmetric choice.
        weight = torch.where(
            sinh_dist > 0, grad.unsqueeze(-1) / torch.where(sinh_dist > 0, sinh_dist, 1), 0
        )
        sinh_a, sinh_b = torch.sinh(a), torch.sinh(b)
        rise = torch.sinh(self.delta)
        radial_u = weight * (rise + torch.cosh(a) * sinh_b * self.chord / 2)
        radial_v = weight * (-rise + torch.cosh(b) * sinh_a * self.chord / 2)
        # (I - p p^T)(p - q); p.(p - q) is half the squared chord when both are unit vectors.
        side_u = self.gap - p * (p * self.gap).sum(-1, keepdim=True)
        side_v = -self.gap + q * (q * self.gap).sum(-1, keepdim=True)
        grad_u = radial_u * p + weight * _sinhc(a) * sinh_b * side_u
        grad_v = radial_v * q + weight * _sinhc(b) * sinh_a * side_v
        return grad_u, grad_v, (radial_u * a + radial_v * b).sum()


def _sinhc(a: Tensor) -> Tensor:
    """``sinh(a)/a``, 1 at zero."""
    return torch.where(a > 0, torch.sinh(a) / torch.where(a > 0, a, 1), 1)


class _Tile:
    """The fast evaluation for some rows of ``u`` against some of ``v``; close pairs as indices.

    Everything that depends on a row alone is folded into small matrices, so that few passes over
    ``(n, m)`` remain: those bound the time.
    """

    def __init__(self, a: Tensor, p: Tensor, b: Tensor, q: Tensor, tolerance: float) -> None:
        sinh_a, sinh_b = torch.sinh(a), torch.sinh(b)
        # sinh(a) sinh(b) (1 - p.q) as one product; 1 - p.q is half the squared chord.
        self.lift = torch.mm(
            torch.cat([-sinh_a * p, sinh_a], 1), torch.cat([sinh_b * q, sinh_b], 1).mT
        )
        # sinh((a - b)/2) = (expm1(a) - expm1(b)) e^(-a/2) e^(-b/2) / 2, a product of rank two:
        # no transcendental function of an n x m array, and exact where both radii are small.
        ea, eb = torch.exp(-a / 2) / 2, torch.exp(-b / 2)
        left = torch.cat([torch.expm1(a) * ea, -ea], 1)
        self.half = torch.mm(left, torch.cat([eb, torch.expm1(b) * eb], 1).mT)
        # cosh(dist) - 1 = 2X
        self.excess = torch.addcmul(self.lift, self.half, self.half, value=2)
        lost = 16 * torch.finfo(a.dtype).eps / tolerance
        self.close = torch.nonzero(self.excess < torch.mm(lost * sinh_a, sinh_b.mT))  # (n_close, 2)

    def distance(self) -> Tensor:
        """``acosh(1 + excess)``; overwrites nothing."""
        return self.sinh().add_(self.excess).log1p_()

    def sinh(self) -> Tensor:
        """``sinh(dist)``, NaN where rounding made the excess negative: those pairs are close."""
        return torch.add(self.excess, 2).mul_(self.excess).sqrt_()

    def redo(self, width: int) -> list[Tensor]:
        """The close pairs, in lots of bounded memory."""
        if self.close.shape[0] == 0:
            return []
        return list(self.close.split(max(1, _PAIR_ELEMENTS // max(1, width))))


def _tiling(rows: int, columns: int, device: torch.device) -> tuple[list[slice], list[slice]]:
    """Cut ``(rows, columns)`` into tiles that fit the cache, few of them, not too narrow."""
    size = _TILE if device.type == "cpu" else _TILE_DEVICE
    height = max(1, min(rows, max(256, size // max(1, columns))))
    width = max(1, size // height)
    return (
        [slice(i, min(i + height, rows)) for i in range(0, rows, height)],
        [slice(j, min(j + width, columns)) for j in range(0, columns, width)],
    )


def _scaled(u: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    wide = _wide(u.device)
    s = c.to(device=u.device, dtype=wide).sqrt()
    return u.to(wide) * s, s


@torch.library.custom_op("hyperlm::polar_pairwise", mutates_args=())
def pairwise(u: Tensor, v: Tensor, c: Tensor) -> Tensor:
    """``(N, d), (M, d), () -> (N, M)``, in the dtype of ``u``."""
    with torch.autocast(u.device.type, enabled=False):
        result = u.new_empty(u.shape[0], v.shape[0])
        tall, wide = _tiling(u.shape[0], v.shape[0], u.device)
        for columns in wide:
            vs, s = _scaled(v[columns], c)
            b, q = _polar(vs)
            for rows in tall:
                us, _ = _scaled(u[rows], c)
                a, p = _polar(us)
                tile = _Tile(a, p, b, q, _TOLERANCE[u.dtype])
                target = result[rows, columns]
                target.copy_(tile.distance().div_(s))
                for some in tile.redo(u.shape[1]):
                    i, j = some[:, 0], some[:, 1]
                    target[i, j] = (_Pairs(us[i], vs[j]).distance() / s).to(result.dtype)
        return result


@pairwise.register_fake
def _(u: Tensor, v: Tensor, c: Tensor) -> Tensor:
    return u.new_empty(u.shape[0], v.shape[0])


@torch.library.custom_op("hyperlm::polar_pairwise_backward", mutates_args=())
def _pairwise_backward(
    grad: Tensor, dist: Tensor, u: Tensor, v: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.autocast(u.device.type, enabled=False):
        result_u = torch.zeros(u.shape, dtype=_wide(u.device), device=u.device)
        result_v = torch.empty_like(v)
        s = _scaled(u[:0], c)[1]
        along = torch.zeros_like(s)  # sum of grad (a dD/da + b dD/db)
        spent = torch.zeros_like(s)  # sum of grad D
        tall, wide = _tiling(u.shape[0], v.shape[0], u.device)
        for columns in wide:
            vs, _ = _scaled(v[columns], c)
            b, q = _polar(vs)
            grad_v, side_v, radial_v = torch.zeros_like(vs), torch.zeros_like(vs), 0 * b
            for rows in tall:
                us, _ = _scaled(u[rows], c)
                a, p = _polar(us)
                grad_u = result_u[rows]
                weight = grad[rows, columns].to(us.dtype)
                spent += (weight * dist[rows, columns]).sum() * s
                tile = _Tile(a, p, b, q, _TOLERANCE[u.dtype])
                for some in tile.redo(u.shape[1]):
                    i, j = some[:, 0], some[:, 1]
                    gu, gv, part = _Pairs(us[i], vs[j]).gradient(weight[i, j])
                    grad_u.index_add_(0, i, gu)
                    grad_v.index_add_(0, j, gv)
                    along += part
                # Close pairs and coincident ones, also of two points at the origin, drop out.
                sinh_dist = tile.sinh()
                weight = torch.where(sinh_dist > 0, weight / sinh_dist, 0)
                if tile.close.shape[0]:
                    weight[tile.close[:, 0], tile.close[:, 1]] = 0
                # sinh(a - b) = 2 sinh(h) cosh(h)
                cosh_half = torch.addcmul(tile.half.new_ones(()), tile.half, tile.half).sqrt_()
                rise = cosh_half.mul_(tile.half).mul_(weight).mul_(2)
                lifted = tile.lift.mul_(weight)
                sinh_a, sinh_b = torch.sinh(a), torch.sinh(b)
                # cosh(a) sinh(b) (1 - p.q) is the lift over tanh(a); at the origin it counts for
                # nothing, since there p = 0.
                radial_u = rise.sum(1, keepdim=True) + lifted.sum(1, keepdim=True) / _or_one(
                    torch.tanh(a)
                )
                radial_v -= rise.sum(0).unsqueeze(-1)
                radial_v += lifted.sum(0).unsqueeze(-1) / _or_one(torch.tanh(b))
                side = torch.mm(weight, q * sinh_b)  # (n, d)
                side_v.addmm_(weight.mT, p * sinh_a)
                along += (radial_u * a).sum()
                side -= p * (p * side).sum(-1, keepdim=True)
                grad_u += radial_u * p - _sinhc(a) * side
            along += (radial_v * b).sum()
            side_v -= q * (q * side_v).sum(-1, keepdim=True)
            result_v[columns] = (grad_v + radial_v * q - _sinhc(b) * side_v).to(v.dtype)
        # D = F(s u, s v)/s, so dD/ds = (a F_a + b F_b - F)/s^2 and ds/dc = 1/(2 s).
        grad_c = (along - spent) / (2 * s**3)
        return result_u.to(u.dtype), result_v, grad_c.to(c)


@_pairwise_backward.register_fake
def _(grad: Tensor, dist: Tensor, u: Tensor, v: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(u), torch.empty_like(v), torch.empty_like(c)


@torch.library.custom_op("hyperlm::polar_paired", mutates_args=())
def paired(u: Tensor, v: Tensor, c: Tensor) -> Tensor:
    """``(n, d), (n, d), () -> (n,)``, row by row, in the dtype of ``u``."""
    with torch.autocast(u.device.type, enabled=False):
        us, s = _scaled(u, c)
        vs, _ = _scaled(v, c)
        return (_Pairs(us, vs).distance() / s).to(u.dtype)


@paired.register_fake
def _(u: Tensor, v: Tensor, c: Tensor) -> Tensor:
    return u.new_empty(u.shape[0])


@torch.library.custom_op("hyperlm::polar_paired_backward", mutates_args=())
def _paired_backward(
    grad: Tensor, dist: Tensor, u: Tensor, v: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.autocast(u.device.type, enabled=False):
        us, s = _scaled(u, c)
        vs, _ = _scaled(v, c)
        wide_grad = grad.to(us.dtype)
        grad_u, grad_v, along = _Pairs(us, vs).gradient(wide_grad)
        grad_c = (along - (wide_grad * dist).sum() * s) / (2 * s**3)
        return grad_u.to(u.dtype), grad_v.to(v.dtype), grad_c.to(c)


@_paired_backward.register_fake
def _(grad: Tensor, dist: Tensor, u: Tensor, v: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(u), torch.empty_like(v), torch.empty_like(c)


def _save(ctx, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(output, *inputs)


def _pairwise_gradient(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[no-untyped-def]
    return _pairwise_backward(grad, *ctx.saved_tensors)


def _paired_gradient(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[no-untyped-def]
    return _paired_backward(grad, *ctx.saved_tensors)


pairwise.register_autograd(_pairwise_gradient, setup_context=_save)
paired.register_autograd(_paired_gradient, setup_context=_save)
