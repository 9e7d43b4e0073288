"""Network pickles as NVIDIA's tools write them, made up out of random weights."""

import collections
import contextlib
import pickle
import sys
import types

import numpy as np
import stylegan2_graph
import stylegan2_originals as originals
import torch

WIDTHS, SIZE, DIM = [12, 10, 8, 8], 32, 16
MODULE_SRC = "raise SystemExit('the source in the file was executed')"


class Call:
    """Pickles as a call of ``module.name(*args)``, whatever that is."""

    def __init__(self, module, name, *args):
        self.target, self.args = (module, name), args

    def __reduce__(self):
        return _named(*self.target), self.args


def _named(module, name):
    """A function that pickles under another module's name; the modules are made up, so that pickle finds it there."""
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    owner = sys.modules[module]
    if not hasattr(owner, name):

        def stand_in(*args):
            return args

        stand_in.__module__, stand_in.__qualname__, stand_in.__name__ = module, name, name
        setattr(owner, name, stand_in)
    return getattr(owner, name)


def network(class_name, tensors, buffers=(), attributes=None, submodules=None):
    """A module as torch_utils.persistence pickles it, from nested {name: tensor} dictionaries."""
    state = {
        "training": False,
        "_parameters": collections.OrderedDict(),
        "_buffers": collections.OrderedDict(),
        "_non_persistent_buffers_set": set(),
        "_backward_hooks": collections.OrderedDict(),
        "_modules": collections.OrderedDict(submodules or {}),
        "_init_args": (),
        "_init_kwargs": {},
        "weight_gain": np.float64(0.25),
        **(attributes or {}),
    }
    for name, value in tensors.items():
        if name in buffers or name in ("resample_filter", "noise_const", "w_avg"):
            state["_buffers"][name] = value
        else:
            state["_parameters"][name] = torch.nn.Parameter(value)
    meta = dict(type="class", version=6, module_src=MODULE_SRC, class_name=class_name, state=state)
    return Call("torch_utils.persistence", "_reconstruct_persistent_obj", meta)


def tree(class_name, flat, attributes=None, layer=lambda path: {}, path=""):
    """Nested networks of a flat state dict; ``layer(path)`` gives a module's own attributes."""
    own = {k: v for k, v in flat.items() if "." not in k}
    children = {}
    for key in flat:
        head, dot, rest = key.partition(".")
        if dot:
            children.setdefault(head, {})[rest] = flat[key]
    sub = {}
    for name, below in children.items():
        full = f"{path}.{name}" if path else name
        sub[name] = tree("Layer", below, layer(full), layer, full)
    return network(class_name, own, attributes=attributes, submodules=sub)


def clamped(value):
    def layer(path):
        last = path.split(".")[-1]
        if last in ("conv0", "conv1", "conv", "torgb", "fromrgb"):
            return {"conv_clamp": value}
        if last == "skip":
            return {"conv_clamp": None}
        if last.startswith("fc"):
            return {"bias_gain": 0.01}
        return {}

    return layer


def nvidia_pickle(path, clamp=256, **entries):
    g, d = originals.nvidia_weights(SIZE, WIDTHS, dim=DIM)
    mbstd = network("MinibatchStdLayer", {}, attributes={"group_size": 2, "num_channels": 1})
    discriminator = tree("Discriminator", d, {"c_dim": 0}, clamped(clamp))
    discriminator.args[0]["state"]["_modules"]["b4"].args[0]["state"]["_modules"]["mbstd"] = mbstd
    data = {
        "G": tree("Generator", g, {"c_dim": 0}, clamped(clamp)),
        "D": discriminator,
        "G_ema": tree("Generator", g, {"c_dim": 0}, clamped(clamp)),
        "training_set_kwargs": {"path": "x"},
        "augment_pipe": None,
        **entries,
    }
    path.write_bytes(pickle.dumps(data))
    return g, d


@contextlib.contextmanager
def dnnlib_network():
    """The class of dnnlib's TensorFlow library, for as long as something is pickled."""
    names = ["dnnlib", "dnnlib.tflib", "dnnlib.tflib.network"]
    kind = type("Network", (), {"__getstate__": lambda self: self.__dict__["state"], "__module__": names[-1]})
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update({name: types.ModuleType(name) for name in names})
    sys.modules[names[-1]].Network = kind
    try:
        yield kind
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def graph_pickle(path, size=SIZE, widths=WIDTHS, dim=DIM, protocol=4, g_kwargs=None, d_kwargs=None, change=None):
    """A (G, D, Gs) file as stylegan2 of 2019 writes it; the variables of Gs in its three parts, and of D.

    ``change(own, mapping, synthesis, d)`` may alter the variables before they are written.
    """
    parts = stylegan2_graph.variables(size, widths, dim)
    raw = stylegan2_graph.variables(size, widths, dim, seed=9)
    if change is not None:
        change(*parts)
    kwargs = {"num_channels": 3, "resolution": size, "label_size": 0, "fmap_base": 32 << 10}
    g_all, d_all = {**kwargs, **(g_kwargs or {})}, {**kwargs, **(d_kwargs or {})}
    with dnnlib_network() as kind:

        def net(name, function, variables, static, components=None):
            made = kind()
            made.state = {
                "version": 4,
                "name": name,
                "static_kwargs": static,
                "components": components or {},
                "build_module_src": MODULE_SRC,
                "build_func_name": function,
                "variables": list(variables.items()),
            }
            return made

        def generator(name, own, mapping, synthesis):
            inner = {
                "synthesis": net("G_synthesis", "G_synthesis_stylegan2", synthesis, g_all),
                "mapping": net("G_mapping", "G_mapping", mapping, {**g_all, "dlatent_broadcast": 2 * len(widths)}),
            }
            return net(name, "G_main", own, g_all, inner)

        data = (
            generator("G", *raw[:3]),
            net("D", "D_stylegan2", parts[3], d_all),
            generator("Gs", *parts[:3]),
        )
        path.write_bytes(pickle.dumps(data, protocol=protocol))
    return parts
