"""Network pickles as NVIDIA's tools write them, made up out of random weights."""

import collections
import pickle
import sys
import types

import numpy as np
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
