"""The two public StyleGAN2 ports, written down again as functions of their state dicts, for the tests to agree with.

Nothing here is shared with the package: upfirdn is an explicit zero-insert, pad, correlate, decimate; every gain is
applied where the original applies it.
"""

import math

import torch
import torch.nn.functional as F

FIR = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def upfirdn(x, kernel, up=1, down=1, pad=(0, 0)):
    b, c, h, w = x.shape
    z = x.new_zeros(b, c, h * up, w * up)
    z[:, :, ::up, ::up] = x
    z = F.pad(z, (*pad, *pad))
    k = kernel.to(x).flip(0, 1)[None, None]
    y = F.conv2d(z.reshape(b * c, 1, *z.shape[2:]), k)
    return y.reshape(b, c, *y.shape[2:])[:, :, ::down, ::down]


def lrelu(x, gain=2**0.5, clamp=None):
    y = torch.where(x > 0, x, 0.2 * x) * gain
    return y if clamp is None else y.clamp(-clamp, clamp)


def minibatch_stddev(x, group, f=1):
    n, c, h, w = x.shape
    g = min(group, n)
    y = x.reshape(g, -1, f, c // f, h, w)
    y = ((y - y.mean(0)).square().mean(0) + 1e-8).sqrt().mean((2, 3, 4))
    return torch.cat([x, y.reshape(-1, f, 1, 1).repeat(g, 1, h, w)], 1)


def random_tensors(layout, seed, scale=1.0):
    """Random values for a layout {name: shape}: weights N(0, 1), strengths and biases far from zero."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, shape in layout.items():
        value = torch.randn(shape, generator=g) * scale
        if name.endswith(("modulation.bias", "affine.bias")):
            value = 1 + 0.3 * value
        if name.endswith((".kernel", "resample_filter")):
            value = FIR.clone()
        out[name] = value
    return out


# --- rosinality -----------------------------------------------------------------------------------------------------


def rosinality_layouts(size, widths, dim=512, layers=8):
    """(g_ema, d) layouts; ``widths`` at 4, 8, ... pixels."""
    g, d, n = {}, {}, len(widths)
    for i in range(1, layers + 1):
        g[f"style.{i}.weight"], g[f"style.{i}.bias"] = (dim, dim), (dim,)
    g["input.input"] = (1, widths[0], 4, 4)

    def conv(name, a, b, up):
        g[f"{name}.conv.weight"] = (1, b, a, 3, 3)
        if up:
            g[f"{name}.conv.blur.kernel"] = (4, 4)
        g[f"{name}.conv.modulation.weight"], g[f"{name}.conv.modulation.bias"] = (a, dim), (a,)
        g[f"{name}.noise.weight"], g[f"{name}.activate.bias"] = (1,), (b,)

    def rgb(name, a):
        g[f"{name}.bias"] = (1, 3, 1, 1)
        if name != "to_rgb1":
            g[f"{name}.upsample.kernel"] = (4, 4)
        g[f"{name}.conv.weight"] = (1, 3, a, 1, 1)
        g[f"{name}.conv.modulation.weight"], g[f"{name}.conv.modulation.bias"] = (a, dim), (a,)

    conv("conv1", widths[0], widths[0], False)
    rgb("to_rgb1", widths[0])
    for i in range(1, n):
        conv(f"convs.{2 * i - 2}", widths[i - 1], widths[i], True)
        conv(f"convs.{2 * i - 1}", widths[i], widths[i], False)
        rgb(f"to_rgbs.{i - 1}", widths[i])
    for i in range(2 * n - 1):
        side = 2 ** ((i + 5) // 2)
        g[f"noises.noise_{i}"] = (1, 1, side, side)

    d["convs.0.0.weight"], d["convs.0.1.bias"] = (widths[-1], 3, 1, 1), (widths[-1],)
    for j, i in enumerate(range(n - 1, 0, -1), 1):
        a, b = widths[i], widths[i - 1]
        d[f"convs.{j}.conv1.0.weight"], d[f"convs.{j}.conv1.1.bias"] = (a, a, 3, 3), (a,)
        d[f"convs.{j}.conv2.0.kernel"], d[f"convs.{j}.conv2.1.weight"] = (4, 4), (b, a, 3, 3)
        d[f"convs.{j}.conv2.2.bias"], d[f"convs.{j}.skip.0.kernel"] = (b,), (4, 4)
        d[f"convs.{j}.skip.1.weight"] = (b, a, 1, 1)
    c = widths[0]
    d["final_conv.0.weight"], d["final_conv.1.bias"] = (c, c + 1, 3, 3), (c,)
    d["final_linear.0.weight"], d["final_linear.0.bias"] = (c, 16 * c), (c,)
    d["final_linear.1.weight"], d["final_linear.1.bias"] = (1, c), (1,)
    return g, d


def rosinality_weights(size, widths, dim=512, seed=0, layers=8):
    g_layout, d_layout = rosinality_layouts(size, widths, dim, layers)
    g, d = random_tensors(g_layout, seed), random_tensors(d_layout, seed + 1)
    for name in g:
        if name.startswith("style."):
            g[name] = g[name] * 100  # stored divided by the learning rate multiplier 0.01
        if name.endswith(".kernel"):
            g[name] = g[name] * 4
    return g, d


def rosinality_mapping(s, z, layers=8):
    h = z * torch.rsqrt((z**2).mean(1, keepdim=True) + 1e-8)
    for i in range(1, layers + 1):
        w = s[f"style.{i}.weight"]
        h = lrelu(h @ (w * (1 / math.sqrt(w.shape[1]) * 0.01)).T + s[f"style.{i}.bias"] * 0.01)
    return h


def _rosinality_modconv(s, name, x, w, demodulate=True, up=False):
    m = s[f"{name}.modulation.weight"]
    style = w @ (m / math.sqrt(m.shape[1])).T + s[f"{name}.modulation.bias"]
    weight = s[f"{name}.weight"]
    weight = weight / math.sqrt(weight[0, 0].numel()) * style[:, None, :, None, None]
    if demodulate:
        weight = weight * torch.rsqrt(weight.pow(2).sum((2, 3, 4), keepdim=True) + 1e-8)
    out = []
    for xi, wi in zip(x, weight, strict=True):
        if up:
            y = F.conv_transpose2d(xi[None], wi.transpose(0, 1), stride=2)
            out.append(upfirdn(y, s[f"{name}.blur.kernel"], pad=(1, 1)))
        else:
            out.append(F.conv2d(xi[None], wi, padding=wi.shape[-1] // 2))
    return torch.cat(out)


def rosinality_synthesis(s, ws, noise=True):
    def styled(name, x, w, i, up=False):
        x = _rosinality_modconv(s, f"{name}.conv", x, w, up=up)
        if noise:
            x = x + s[f"{name}.noise.weight"] * s[f"noises.noise_{i}"]
        return lrelu(x + s[f"{name}.activate.bias"][:, None, None])

    def rgb(name, x, w):
        return _rosinality_modconv(s, f"{name}.conv", x, w, demodulate=False) + s[f"{name}.bias"]

    x = s["input.input"].repeat(len(ws), 1, 1, 1)
    x = styled("conv1", x, ws[:, 0], 0)
    skip = rgb("to_rgb1", x, ws[:, 1])
    for j in range(ws.shape[1] // 2 - 1):
        i = 2 * j + 1
        x = styled(f"convs.{2 * j}", x, ws[:, i], i, up=True)
        x = styled(f"convs.{2 * j + 1}", x, ws[:, i + 1], i + 1)
        skip = rgb(f"to_rgbs.{j}", x, ws[:, i + 2]) + upfirdn(skip, s[f"to_rgbs.{j}.upsample.kernel"], 2, 1, (2, 1))
    return skip


def rosinality_discriminator(s, x):
    """(logits, features of the residual blocks)."""

    def conv(name, x, **kw):
        w = s[name]
        return F.conv2d(x, w / math.sqrt(w[0].numel()), **kw)

    x = lrelu(conv("convs.0.0.weight", x) + s["convs.0.1.bias"][:, None, None])
    features, j = [], 1
    while f"convs.{j}.skip.1.weight" in s:
        p = f"convs.{j}"
        y = lrelu(conv(f"{p}.conv1.0.weight", x, padding=1) + s[f"{p}.conv1.1.bias"][:, None, None])
        y = upfirdn(y, s[f"{p}.conv2.0.kernel"], pad=(2, 2))
        y = lrelu(conv(f"{p}.conv2.1.weight", y, stride=2) + s[f"{p}.conv2.2.bias"][:, None, None])
        skip = conv(f"{p}.skip.1.weight", upfirdn(x, s[f"{p}.skip.0.kernel"], pad=(1, 1)), stride=2)
        x = (y + skip) / math.sqrt(2)
        features.append(x)
        j += 1
    x = minibatch_stddev(x, 4)
    x = lrelu(conv("final_conv.0.weight", x, padding=1) + s["final_conv.1.bias"][:, None, None]).flatten(1)
    w = s["final_linear.0.weight"]
    x = lrelu(x @ (w / math.sqrt(w.shape[1])).T + s["final_linear.0.bias"])
    w = s["final_linear.1.weight"]
    return x @ (w / math.sqrt(w.shape[1])).T + s["final_linear.1.bias"], features


# --- NVIDIA ---------------------------------------------------------------------------------------------------------


def nvidia_layouts(size, widths, dim=512, layers=8):
    g, d, n = {}, {}, len(widths)
    g["synthesis.b4.const"] = (widths[0], 4, 4)
    for i in range(n):
        b, res = f"synthesis.b{4 * 2**i}", 4 * 2**i
        g[f"{b}.resample_filter"] = (4, 4)
        for name in ("conv1",) if i == 0 else ("conv0", "conv1"):
            a = widths[i - 1] if name == "conv0" else widths[i]
            g[f"{b}.{name}.weight"], g[f"{b}.{name}.noise_strength"] = (widths[i], a, 3, 3), ()
            g[f"{b}.{name}.bias"], g[f"{b}.{name}.resample_filter"] = (widths[i],), (4, 4)
            g[f"{b}.{name}.affine.weight"], g[f"{b}.{name}.affine.bias"] = (a, dim), (a,)
            g[f"{b}.{name}.noise_const"] = (res, res)
        g[f"{b}.torgb.weight"], g[f"{b}.torgb.bias"] = (3, widths[i], 1, 1), (3,)
        g[f"{b}.torgb.affine.weight"], g[f"{b}.torgb.affine.bias"] = (widths[i], dim), (widths[i],)
    for i in range(layers):
        g[f"mapping.fc{i}.weight"], g[f"mapping.fc{i}.bias"] = (dim, dim), (dim,)
    g["mapping.w_avg"] = (dim,)
    for i in range(n - 1, 0, -1):
        b, a, out = f"b{4 * 2**i}", widths[i], widths[i - 1]
        if i == n - 1:
            d[f"{b}.fromrgb.weight"], d[f"{b}.fromrgb.bias"] = (a, 3, 1, 1), (a,)
            d[f"{b}.fromrgb.resample_filter"] = (4, 4)
        d[f"{b}.conv0.weight"], d[f"{b}.conv0.bias"] = (a, a, 3, 3), (a,)
        d[f"{b}.conv1.weight"], d[f"{b}.conv1.bias"], d[f"{b}.skip.weight"] = (out, a, 3, 3), (out,), (out, a, 1, 1)
        for name in ("", "conv0.", "conv1.", "skip."):
            d[f"{b}.{name}resample_filter"] = (4, 4)
    c = widths[0]
    d["b4.conv.weight"], d["b4.conv.bias"], d["b4.conv.resample_filter"] = (c, c + 1, 3, 3), (c,), (4, 4)
    d["b4.fc.weight"], d["b4.fc.bias"] = (c, 16 * c), (c,)
    d["b4.out.weight"], d["b4.out.bias"] = (1, c), (1,)
    return g, d


def nvidia_weights(size, widths, dim=512, seed=0, layers=8):
    g_layout, d_layout = nvidia_layouts(size, widths, dim, layers)
    g, d = random_tensors(g_layout, seed), random_tensors(d_layout, seed + 1)
    for name in g:
        if name.startswith("mapping.fc"):
            g[name] = g[name] * 100
    return g, d


def nvidia_mapping(s, z, layers=8):
    h = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
    for i in range(layers):
        w = s[f"mapping.fc{i}.weight"]
        h = lrelu(h @ (w * (0.01 / math.sqrt(w.shape[1]))).T + s[f"mapping.fc{i}.bias"] * 0.01)
    return h


def nvidia_conv2d_resample(x, w, f, up=1, down=1, padding=0, flip_weight=True):
    """``conv2d_resample`` by its generic path: upsample with the filter, pad, convolve, decimate with the filter.

    ``flip_weight=False`` means a true convolution. ``f`` is applied at gain up^2; 4 taps.
    """
    p0 = p1 = padding
    if up > 1:
        p0, p1 = p0 + (4 + up - 1) // 2, p1 + (4 - up) // 2
    if down > 1:
        p0, p1 = p0 + (4 - down + 1) // 2, p1 + (4 - down) // 2
    x = upfirdn(x, f * up**2 if up > 1 else torch.ones(1, 1), up=up, pad=(p0, p1))
    x = F.conv2d(x, w if flip_weight else w.flip(2, 3))
    return upfirdn(x, f, down=down) if down > 1 else x


def nvidia_synthesis(s, ws, clamp=256.0, noise=True):
    def affine(name, w):
        a = s[f"{name}.affine.weight"]
        return w @ (a / math.sqrt(a.shape[1])).T + s[f"{name}.affine.bias"]

    def layer(name, x, w, up=1):
        styles, weight = affine(name, w), s[f"{name}.weight"]
        per = weight[None] * styles[:, None, :, None, None]
        per = per * (per.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        # Upsampling layers ask for flip_weight=False, a true convolution. (The original's fast path is a transposed
        # convolution with the weight as stored, which is the same.)
        f = s[f"{name}.resample_filter"]
        y = torch.cat([nvidia_conv2d_resample(a[None], b, f, up, 1, 1, up == 1) for a, b in zip(x, per, strict=True)])
        if noise:
            y = y + s[f"{name}.noise_const"] * s[f"{name}.noise_strength"]
        return lrelu(y + s[f"{name}.bias"][:, None, None], clamp=clamp)

    image, i = None, 0
    for level in range(ws.shape[1] // 2):
        b = f"synthesis.b{4 * 2**level}"
        if level == 0:
            x = s[f"{b}.const"][None].repeat(len(ws), 1, 1, 1)
        else:
            x = layer(f"{b}.conv0", x, ws[:, i], up=2)
            i += 1
        x = layer(f"{b}.conv1", x, ws[:, i])
        i += 1
        weight = s[f"{b}.torgb.weight"]
        styles = affine(f"{b}.torgb", ws[:, i]) * (1 / math.sqrt(weight.shape[1]))
        y = torch.einsum("oi,bi,bihw->bohw", weight[:, :, 0, 0], styles, x) + s[f"{b}.torgb.bias"][:, None, None]
        y = y if clamp is None else y.clamp(-clamp, clamp)
        image = y if image is None else upfirdn(image, s[f"{b}.resample_filter"] * 4, 2, 1, (2, 1)) + y
    return image


def nvidia_discriminator(s, x, clamp=256.0, group=4):
    def conv(name, x, k=3, down=1):
        w = s[f"{name}.weight"]
        f = s[f"{name}.resample_filter"]
        if down > 1:  # blur first, then a strided convolution
            pad = k // 2
            x = upfirdn(x, f, pad=(pad + 1, pad + 1))
            y = F.conv2d(x, w / math.sqrt(w[0].numel()), stride=2)
        else:
            y = F.conv2d(x, w / math.sqrt(w[0].numel()), padding=k // 2)
        return y if f"{name}.bias" not in s else y + s[f"{name}.bias"][:, None, None]

    half = math.sqrt(0.5)
    sizes = sorted({int(n.split(".")[0][1:]) for n in s}, reverse=True)
    x = lrelu(conv(f"b{sizes[0]}.fromrgb", x, k=1), clamp=clamp)
    features = []
    for res in sizes[:-1]:
        y = conv(f"b{res}.skip", x, k=1, down=2) * half
        x = lrelu(conv(f"b{res}.conv0", x), clamp=clamp)
        x = lrelu(conv(f"b{res}.conv1", x, down=2), gain=1.0, clamp=None if clamp is None else clamp * half)
        x = y + x
        features.append(x)
    x = minibatch_stddev(x, group)
    x = lrelu(conv("b4.conv", x), clamp=clamp).flatten(1)
    w = s["b4.fc.weight"]
    x = lrelu(x @ (w / math.sqrt(w.shape[1])).T + s["b4.fc.bias"])
    w = s["b4.out.weight"]
    return x @ (w / math.sqrt(w.shape[1])).T + s["b4.out.bias"], features
