"""StyleGAN2 as its TensorFlow repository publishes it: layouts, random variables, and the graph in NumPy.

Nothing here is shared with the package, nor with the PyTorch ports beside it: kernels are (height, width, in, out),
every gain is applied where the graph applies it, in float64.
"""

import numpy as np

FIR = np.outer([1.0, 3, 3, 1], [1.0, 3, 3, 1]) / 64


def layouts(size, widths, dim=512, layers=8):
    """({G's own}, {mapping}, {synthesis}, {D}) variables; ``widths`` at 4, 8, ... pixels."""
    own = {"lod": (), "dlatent_avg": (dim,)}
    mapping, synthesis, d = {}, {}, {}
    for i in range(layers):
        mapping[f"Dense{i}/weight"], mapping[f"Dense{i}/bias"] = (dim, dim), (dim,)
    for i in range(2 * len(widths) - 1):
        synthesis[f"noise{i}"] = (1, 1, 2 ** ((i + 5) // 2), 2 ** ((i + 5) // 2))

    def conv(name, k, c_in, c_out, noise=True):
        synthesis[f"{name}/weight"], synthesis[f"{name}/bias"] = (k, k, c_in, c_out), (c_out,)
        synthesis[f"{name}/mod_weight"], synthesis[f"{name}/mod_bias"] = (dim, c_in), (c_in,)
        if noise:
            synthesis[f"{name}/noise_strength"] = ()

    synthesis["4x4/Const/const"] = (1, widths[0], 4, 4)
    for level, width in enumerate(widths):
        block = f"{4 * 2**level}x{4 * 2**level}"
        if level == 0:
            conv(f"{block}/Conv", 3, width, width)
        else:
            conv(f"{block}/Conv0_up", 3, widths[level - 1], width)
            conv(f"{block}/Conv1", 3, width, width)
        conv(f"{block}/ToRGB", 1, width, 3, noise=False)

    def plain(name, shape, bias=True):
        d[f"{name}/weight"] = shape
        if bias:
            d[f"{name}/bias"] = shape[-1:]

    for level in range(len(widths) - 1, 0, -1):
        block, a, b = f"{4 * 2**level}x{4 * 2**level}", widths[level], widths[level - 1]
        if level == len(widths) - 1:
            plain(f"{block}/FromRGB", (1, 1, 3, a))
        plain(f"{block}/Conv0", (3, 3, a, a))
        plain(f"{block}/Conv1_down", (3, 3, a, b))
        plain(f"{block}/Skip", (1, 1, a, b), bias=False)
    c = widths[0]
    plain("4x4/Conv", (3, 3, c + 1, c))
    plain("4x4/Dense0", (16 * c, c))
    plain("Output", (c, 1))
    return own, mapping, synthesis, d


def variables(size, widths, dim=512, layers=8, seed=0):
    """Random values of the four, as float32."""
    rng = np.random.default_rng(seed)
    made = []
    for part, layout in enumerate(layouts(size, widths, dim, layers)):
        scale = 100 if part == 1 else 1  # stored divided by the learning rate multiplier 0.01
        made.append({n: np.asarray(rng.normal(size=s) * scale, np.float32) for n, s in layout.items()})
    for name in made[2]:
        if name.endswith("mod_bias"):
            made[2][name] *= 0.3
    made[0]["lod"] = np.float32(0)
    return made


def lrelu(x):
    return np.where(x > 0, x, 0.2 * x) * np.sqrt(2)


def scaled(w, lrmul=1.0):
    return w.astype(np.float64) * lrmul / np.sqrt(np.prod(w.shape[:-1]))


def upfirdn(x, kernel, up=1, down=1, pad=(0, 0)):
    n, c, h, w = x.shape
    z = np.zeros((n, c, h * up, w * up))
    z[:, :, ::up, ::up] = x
    z = np.pad(z, ((0, 0), (0, 0), pad, pad))
    k, flipped = kernel.shape[0], kernel[::-1, ::-1]
    out = sum(
        flipped[i, j] * z[:, :, i : z.shape[2] - k + 1 + i, j : z.shape[3] - k + 1 + j]
        for i in range(k)
        for j in range(k)
    )
    return out[:, :, ::down, ::down]


def conv2d(x, w, stride=1, pad=0):
    """w (kh, kw, in, out), one for all or (N, kh, kw, in, out)."""
    w = np.broadcast_to(w, (len(x), *w.shape[-4:]))
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    k = w.shape[1]
    h, v = x.shape[2] - k + 1, x.shape[3] - k + 1
    out = sum(
        np.einsum("nchw,nco->nohw", x[:, :, i : i + h, j : j + v], w[:, i, j]) for i in range(k) for j in range(k)
    )
    return out[:, :, ::stride, ::stride]


def upsample_conv(x, w):
    """A transposed convolution, as TensorFlow's, with the mirrored kernel (N, 3, 3, in, out), then the filter."""
    n, _, h, v = x.shape
    y = np.zeros((n, w.shape[-1], 2 * h + 1, 2 * v + 1))
    mirrored = w[:, ::-1, ::-1]
    for i in range(3):
        for j in range(3):
            y[:, :, i : i + 2 * h : 2, j : j + 2 * v : 2] += np.einsum("nchw,nco->nohw", x, mirrored[:, i, j])
    return upfirdn(y, FIR * 4, pad=(1, 1))


def mapping_of(s, z, lrmul=0.01):
    x = z / np.sqrt((z**2).mean(1, keepdims=True) + 1e-8)
    for i in range(sum(name.endswith("weight") for name in s)):
        x = lrelu(x @ scaled(s[f"Dense{i}/weight"], lrmul) + s[f"Dense{i}/bias"] * lrmul)
    return x


def synthesis_of(s, ws, noise=True):
    def modulated(name, x, w, up=False, demodulate=True):
        style = w @ scaled(s[f"{name}/mod_weight"]) + s[f"{name}/mod_bias"] + 1
        kernel = scaled(s[f"{name}/weight"])[None] * style[:, None, None, :, None]
        if demodulate:
            kernel = kernel / np.sqrt((kernel**2).sum((1, 2, 3), keepdims=True) + 1e-8)
        return upsample_conv(x, kernel) if up else conv2d(x, kernel, pad=kernel.shape[1] // 2)

    def layer(name, x, index, up=False):
        x = modulated(name, x, ws[:, index], up)
        if noise:
            x = x + s[f"noise{index}"] * s[f"{name}/noise_strength"]
        return lrelu(x + s[f"{name}/bias"][:, None, None])

    def to_rgb(name, x, index):
        return modulated(name, x, ws[:, index], demodulate=False) + s[f"{name}/bias"][:, None, None]

    x = np.repeat(s["4x4/Const/const"].astype(np.float64), len(ws), 0)
    x = layer("4x4/Conv", x, 0)
    y = to_rgb("4x4/ToRGB", x, 1)
    for res in range(3, ws.shape[1] // 2 + 2):
        block = f"{2**res}x{2**res}"
        x = layer(f"{block}/Conv0_up", x, res * 2 - 5, up=True)
        x = layer(f"{block}/Conv1", x, res * 2 - 4)
        y = upfirdn(y, FIR * 4, up=2, pad=(2, 1)) + to_rgb(f"{block}/ToRGB", x, res * 2 - 3)
    return y


def discriminator_of(s, x, group=4):
    def conv(name, x, act=True, down=False):
        w = scaled(s[f"{name}/weight"])
        k = w.shape[0]
        if down:
            p = 2 + k - 1
            x = conv2d(upfirdn(x, FIR, pad=((p + 1) // 2, p // 2)), w, stride=2)
        else:
            x = conv2d(x, w, pad=k // 2)
        return lrelu(x + s[f"{name}/bias"][:, None, None]) if act else x

    sizes = sorted({int(name.split("x")[0]) for name in s if "x" in name.split("/")[0]}, reverse=True)
    x = conv(f"{sizes[0]}x{sizes[0]}/FromRGB", x)
    for size in sizes[:-1]:
        block = f"{size}x{size}"
        y = conv(f"{block}/Conv1_down", conv(f"{block}/Conv0", x), down=True)
        x = (y + conv(f"{block}/Skip", x, act=False, down=True)) / np.sqrt(2)
    n, c, h, w = x.shape
    g = min(group, n)
    y = x.reshape(g, -1, 1, c, h, w)
    y = np.sqrt(((y - y.mean(0)) ** 2).mean(0) + 1e-8).mean((2, 3, 4), keepdims=True).mean(2)
    x = np.concatenate([x, np.tile(y, (g, 1, h, w))], 1)
    x = conv("4x4/Conv", x).reshape(n, -1)
    x = lrelu(x @ scaled(s["4x4/Dense0/weight"]) + s["4x4/Dense0/bias"])
    return x @ scaled(s["Output/weight"]) + s["Output/bias"]
