"""Files that hold no arrays of numpy: checkpoints, GLB scenes, BVH and JSON, read without running anything."""

import json
import re
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fitting.inspect.kinds import FITTED, PREPARE, find_kind
from fitting.inspect.report import Report, Row, holds
from models.bvh import read_bvh
from models.errors import InputError
from models.torch_files import read_plain

FITTED_MEANINGS = {key: meaning for key, (_, meaning) in FITTED.items()}
GLB_JSON = 0x4E4F534A
SAMPLE = "python -m sample.generate --model_path {file} --text_prompt '...'  # in MDM's repository, gives a results.npy"


def read_json(path: Path) -> Any:
    """The content of a JSON file; InputError for a broken one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON: {error}.") from None


# Checkpoints --------------------------------------------------------------------------------------------------------


def inspect_checkpoint(path: Path) -> Report:
    """A torch file: every tensor's shape, layers of one shape in a row; and what network the names tell."""
    tensors = _flatten(read_plain(path))
    report = Report(str(path), _network(tensors), _tensor_rows(tensors))
    report.facts["parameters"] = f"{sum(tensor.numel() for tensor in tensors.values()):,}"
    if "MDM" in report.kind:
        report.facts |= _mdm_facts(tensors)
        _add_options(report, path.with_name("args.json"))
        report.next.append(SAMPLE.format(file=path))
    return report


def _flatten(content: Any, prefix: str = "") -> dict[str, Tensor]:
    """Name -> tensor of everything in nested dicts and lists; single numbers and words are left out."""
    if isinstance(content, Tensor):
        return {prefix or "tensor": content}
    pairs = content.items() if isinstance(content, Mapping) else enumerate(content if isinstance(content, list) else ())
    return {
        name: tensor for key, value in pairs for name, tensor in _flatten(value, f"{prefix}.{key}".strip(".")).items()
    }


def _tensor_rows(tensors: dict[str, Tensor]) -> list[Row]:
    """A row for each name and shape, the numbers of layers gathered in braces: layers.{0..7}.norm1.weight."""
    groups: dict[tuple[str, str], list[int]] = {}
    for name, tensor in tensors.items():
        layer = re.search(r"(?<=layers\.)\d+|(?<=_l)\d+$", name)
        pattern = name[: layer.start()] + "{}" + name[layer.end() :] if layer else name
        shape = f"{str(tensor.dtype).removeprefix('torch.')} ({', '.join(map(str, tensor.shape))})"
        groups.setdefault((pattern, shape), []).append(int(layer[0]) if layer else 0)
    return [Row(_layers(name, numbers), shape, "", _part(name)) for (name, shape), numbers in groups.items()]


def _layers(pattern: str, numbers: list[int]) -> str:
    several = f"{{{numbers[0]}..{numbers[-1]}}}"
    return pattern.replace("{}", several if len(numbers) > 1 else str(numbers[0]))


PARTS = {
    "input_process": "frame to token",
    "output_process": "token to frame",
    "sequence_pos_encoder": "table of positions, made anew when loading",
    "embed_timestep": "time step to token",
    "embed_text": "text to token",
    "embed_action": "action to token",
    "embed_target_cond": "goals to token",
    "seqTransEncoder": "transformer encoder",
    "seqTransDecoder": "transformer decoder",
    "gru": "recurrent network",
    "movement_encoder": "evaluator: frames to snippets",
    "motion_encoder": "evaluator: snippets to an embedding",
    "text_encoder": "evaluator: words to an embedding",
}


def _part(name: str) -> str:
    return next((what for part, what in PARTS.items() if part in name.split(".")), "")


def _network(tensors: dict[str, Tensor]) -> str:
    parts = {part for name in tensors for part in name.split(".")}
    if "input_process" in parts:
        return "a checkpoint of MDM, with averaged weights" if "model_avg" in parts else "a checkpoint of MDM"
    if {"movement_encoder", "motion_encoder"} & parts:
        return "the evaluator networks of HumanML3D"
    return "a PyTorch file of tensors"


def _mdm_facts(tensors: dict[str, Tensor]) -> dict[str, str]:
    """What the shapes tell about an MDM: variant, layers, width, motion form, condition."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    width, channels = _shape_of(shapes, "input_process.poseEmbedding.weight") or (0, 0)
    forms = {263: "HumanML3D features", 251: "KIT-ML features", 150: "25 rows of rot6d (24 joints and the root)"}
    variants = {"seqTransEncoder": "trans_enc", "seqTransDecoder": "trans_dec", "gru": "gru"}
    layers = {int(found[1]) for name in shapes if (found := re.search(r"(?:layers\.|_l)(\d+)", name))}
    facts = {
        "network": next((arch for part, arch in variants.items() if any(part in name for name in shapes)), "unknown"),
        "size": f"{len(layers)} layers, width {width}",
        "motion": f"{channels} numbers a frame: {forms.get(channels, 'an unknown form')}",
    }
    text, actions = _shape_of(shapes, "embed_text.weight"), _shape_of(shapes, "embed_action.action_embedding")
    if text:
        encoder = {512: "CLIP ViT-B/32", 768: "DistilBERT"}.get(text[1], "an unknown encoder")
        facts["condition"] = f"text, {text[1]} numbers of {encoder}, which is not in the file"
    else:
        facts["condition"] = f"one of {actions[0]} actions" if actions else "none"
    return facts


def _shape_of(shapes: dict[str, tuple[int, ...]], name: str) -> tuple[int, ...] | None:
    """The shape of the tensor called so, whatever stands before its name."""
    return next((shape for full, shape in shapes.items() if full.endswith(name)), None)


def _add_options(report: Report, args: Path) -> None:
    if not args.is_file():
        report.wrong.append("no args.json lies beside it: steps, schedule and data set are not known without it")
        return
    options = read_json(args)
    names = ("arch", "dataset", "diffusion_steps", "noise_schedule", "text_encoder_type", "use_ema")
    report.facts["args.json"] = ", ".join(f"{name} {options[name]}" for name in names if name in options)


# GLB ----------------------------------------------------------------------------------------------------------------


def inspect_glb(path: Path) -> Report:
    """A glTF binary: nodes, meshes, skins, animations and what the scene's extras say."""
    try:
        return _glb_report(path, _glb_json(path))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise InputError(f"{path}: the scene in it is not glTF 2.0's: parts that must be there are missing.") from None


def _glb_report(path: Path, scene: dict) -> Report:
    counts = {key: scene[key] for key in ("nodes", "meshes", "materials", "skins", "animations") if scene.get(key)}
    rows = [Row(key, f"{len(items)}", "", ", ".join(_names(items))) for key, items in counts.items()]
    report = Report(str(path), "a glTF scene (GLB)", rows, {"units": "metres, y up", "generator": _generator(scene)})
    extras = next((each["extras"] for each in scene.get("scenes", ()) if isinstance(each.get("extras"), dict)), {})
    report.rows += [Row(f"extras.{key}", holds(value), "", _extra(key)) for key, value in extras.items()]
    report.facts |= {key: str(extras[key]) for key in ("text", "fps", "frames", "body") if key in extras}
    _add_animation(report, scene)
    report.next.append("Blender: File > Import > glTF 2.0, with the scene's frame rate set before")
    return report


def _glb_json(path: Path) -> dict:
    """The first chunk of a GLB (glTF 2.0, section 4.4)."""
    data = path.read_bytes()
    try:
        _, version, _, length, kind = struct.unpack_from("<4sIIII", data)
        if version != 2 or kind != GLB_JSON or 20 + length > len(data):
            raise ValueError
        return json.loads(data[20 : 20 + length])
    except (struct.error, ValueError):
        raise InputError(f"{path}: no whole GLB of glTF 2.0. Is it cut?") from None


def _extra(key: str) -> str:
    """What a custom property means, where it is one of ours."""
    return {"frames": "frames of the animation", **FITTED_MEANINGS}.get(key, "")


def _names(items: list[dict], most: int = 4) -> list[str]:
    names = [str(item.get("name", "unnamed")) for item in items]
    return names[:most] + ["..."] * (len(names) > most)


def _generator(scene: dict) -> str:
    return str(scene.get("asset", {}).get("generator", "not named"))


def _add_animation(report: Report, scene: dict) -> None:
    accessors = scene.get("accessors", ())
    for mesh in scene.get("meshes", ()):
        position = mesh["primitives"][0]["attributes"]["POSITION"]
        report.facts["vertices"] = str(accessors[position]["count"])
    if not scene.get("animations"):
        report.wrong.append("it holds no animation: a still")
        return
    keys = [accessors[sampler["input"]] for sampler in scene["animations"][0]["samplers"]]
    report.facts["animation"] = f"{keys[0]['count']} keys, {max(key['max'][0] for key in keys):g} s"


# BVH ----------------------------------------------------------------------------------------------------------------


def inspect_bvh(path: Path) -> Report:
    """A BVH: every joint with its offset and channels."""
    bvh = read_bvh(path)
    rows = [
        Row(name, f"offset {' '.join(f'{x:.4g}' for x in offset)}", " ".join(channels),
            f"child of {bvh.names[parent]}" if parent >= 0 else "root")
        for name, offset, channels, parent in zip(bvh.names, bvh.offsets, bvh.channels, bvh.parents, strict=True)
    ]  # fmt: skip
    joints = bvh.joints()[:, [bool(channels) for channels in bvh.channels]]
    size = float((joints[0].max(0) - joints[0].min(0)).max())
    unit = "metres" if size < 4 else "centimetres, or another unit than metres"
    report = Report(str(path), "BVH motion capture: a skeleton and its rotations", rows)
    report.facts = {
        "frames": f"{len(joints)}",
        "fps": f"{bvh.fps:g} (from the file)",
        "joints": f"{joints.shape[1]}, and {len(bvh.names) - joints.shape[1]} end sites",
        "units": f"degrees; the first frame is {size:.4g} large, so lengths are probably in {unit}",
        "up": f"probably {'xyz'[int((joints[0].max(0) - joints[0].min(0)).argmax())]}, the longest side of that frame",
    }
    report.next.append(PREPARE.format(file=path))
    return report


# JSON ---------------------------------------------------------------------------------------------------------------


def inspect_json(path: Path, of_dict: Callable[[Mapping], Report]) -> Report:
    """JSON of a kind that is known (report.json, args.json, HumanIK), or any other; of_dict describes a dict."""
    content = read_json(path)
    if not isinstance(content, dict):
        return Report(str(path), f"JSON: {holds(content)}")
    report = of_dict({key: _as_array(value) for key, value in content.items()})
    if find_kind(content) is None:
        report.kind = "JSON"
    elif isinstance(content.get("clips"), list):
        _add_clips(report, [clip for clip in content["clips"] if isinstance(clip, dict)])
    return report


def _as_array(value: Any) -> Any:
    """Nested lists of numbers as an array, so that their shape is told; anything else as it is."""
    if not (isinstance(value, list) and value and isinstance(value[0], list)):
        return value
    try:
        array = np.asarray(value)
    except ValueError:
        return value
    return array if array.dtype.kind in "fi" else value


def _add_clips(report: Report, clips: list[dict]) -> None:
    """How the clips of a run ended."""
    ends = Counter(str(clip.get("status")) for clip in clips)
    report.facts["clips"] = f"{len(clips)}: " + ", ".join(f"{count} {end}" for end, count in ends.items())
    left = [
        f"{clip.get('name')}: {clip.get('status')}: {clip.get('message')}" for clip in clips if not clip.get("files")
    ]
    report.wrong += left
