"""MDM's checkpoints: weights (`model000600000.pt`) with their options (`args.json`) beside them, read and written.

A weights file is a state dict, or {"model": ..., "model_avg": ...} with the running average of the weights. Only
tensors and plain containers are read of it. What the options and the weights say about the network must agree.
"""

import json
import pickle
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import InputError
from models.mdm.denoiser import Denoiser, DenoiserConfig
from models.mdm.diffusion import Schedule, noise_schedule

# dataset -> features of a frame, actions (0: the data has sentences)
DATASETS = {"humanml": (263, 0), "kit": (251, 0), "humanact12": (150, 12), "uestc": (150, 40)}

# The reference's names and defaults of what describes a network and its loss, then ours that its files lack.
DEFAULTS: dict[str, Any] = {
    "dataset": "humanml",
    "arch": "trans_enc",
    "text_encoder_type": "clip",
    "emb_trans_dec": False,
    "layers": 8,
    "latent_dim": 512,
    "cond_mask_prob": 0.1,
    "mask_frames": False,
    "unconstrained": False,
    "use_ema": False,
    "multi_target_cond": False,
    "multi_encoder_type": "single",
    "target_enc_layers": 1,
    "context_len": 0,
    "pred_len": 0,
    "noise_schedule": "cosine",
    "diffusion_steps": 1000,
    "sigma_small": True,
    "lambda_vel": 0.0,
    "lambda_rcxyz": 0.0,
    "lambda_fc": 0.0,
}
OURS: dict[str, Any] = {
    "ff_size": 1024,
    "heads": 4,
    "dropout": 0.1,
    "gru_over_time": False,
    "words": 0,
    "frames_per_token": 1,
    "overlap": 0,
    "refine": 0,
}
_TRUNKS = {"seqTransEncoder": "trans_enc", "seqTransDecoder": "trans_dec", "gru": "gru"}
EXPECTED = "expected are MDM's weights, for example save/NAME/model000475000.pt"
_OTHER_FORMS = {
    "state_dict": "a Lightning checkpoint: export its weights first",
    "param_groups": "an optimiser's state (opt*.pt): the weights are the model*.pt beside it",
    "movement_encoder": "the text-to-motion evaluator (finest.tar), not a network that generates",
}


@dataclass(frozen=True)
class Checkpoint:
    """A network ready to sample (eval mode, CPU, float32), the noise schedule it was trained with, and its options."""

    denoiser: Denoiser
    schedule: Schedule
    args: dict[str, Any]


def load_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint in weights file `path` with the args.json in its folder.

    Averaged weights are taken where the options say they were kept (use_ema). Raises InputError for a file that is
    missing, no torch file, of unknown form or wants to run code; for args.json missing, broken or at odds with the
    weights; for entries missing or left over.
    """
    path = Path(path)
    content = read_weights(path)
    args = read_args(path.parent / "args.json")
    state = _choose_average(content, args, path)
    denoiser = Denoiser(config_of(args))
    _check_trunk(state, denoiser.config.arch, path)
    load_state(denoiser, state, path)
    return Checkpoint(denoiser.eval(), noise_schedule(args["noise_schedule"], args["diffusion_steps"]), args)


def read_weights(path: Path) -> dict[str, Any]:
    """The state dict, or dict of two, in a torch file; nothing else of it is built. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; {EXPECTED}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = _unsafe(path, wanted.group(1)) if wanted else f"{path}: no torch file, or cut; {EXPECTED}"
        raise InputError(reason) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: no torch file, or cut ({error})") from None
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: holds a {type(content).__name__}; expected is a state dict of tensors")
    return content


def _unsafe(path: Path, name: str) -> str:
    return (
        f"{path}: asks to load {name}, which could run code; nothing was run. Weights need tensors only: "
        "whoever made the file can save them with torch.save(model.state_dict(), path)"
    )


def read_args(path: Path) -> dict[str, Any]:
    """Options of a checkpoint, completed with defaults (a warning names them). Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path}: missing. It lies beside the weights in their archive and says what network they are")
    try:
        args = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path}: no JSON ({error}); take args.json of the archive again") from None
    if not isinstance(args, dict):
        raise InputError(f"{path}: holds a {type(args).__name__}; expected are options by name")
    if "cond_mode" in args:  # files of the first release
        args.setdefault("unconstrained", args["cond_mode"] == "no_cond")
    if absent := [name for name in DEFAULTS if name not in args]:
        warnings.warn(f"{path} lacks {', '.join(absent)}: defaults are taken", stacklevel=2)
    args = {**DEFAULTS, **OURS, **args}
    if wrong := [name for name, default in (DEFAULTS | OURS).items() if not _fits(args[name], default)]:
        raise InputError(f"{path}: not usable: " + ", ".join(f"{name} = {args[name]!r}" for name in wrong))
    return args


def _fits(value: Any, default: Any) -> bool:
    """Whether an option has its default's type; an integer may stand for a float, never a truth value for a number."""
    return isinstance(value, (float, int) if isinstance(default, float) else type(default)) and (
        isinstance(value, bool) == isinstance(default, bool)
    )


def config_of(args: dict[str, Any]) -> DenoiserConfig:
    """The network that complete options describe. Raises InputError for a data set or goal encoder unknown here."""
    if args["dataset"] not in DATASETS:
        raise InputError(f"dataset {args['dataset']!r} is unknown; known are {', '.join(DATASETS)}")
    if args["multi_target_cond"] and args["multi_encoder_type"] != "single":
        raise InputError(f"goal encoder {args['multi_encoder_type']!r} is not supported; supported is 'single'")
    if not args["sigma_small"]:
        raise InputError("sigma_small = false: sampling with the large variance is not supported")
    features, actions = DATASETS[args["dataset"]]
    condition = "none" if args["unconstrained"] else "action" if actions else "text"
    return DenoiserConfig(
        features=features,
        arch=args["arch"],
        condition=condition,
        text_encoder=args["text_encoder_type"],
        actions=actions,
        latent_dim=args["latent_dim"],
        ff_size=args["ff_size"],
        layers=args["layers"],
        heads=args["heads"],
        dropout=args["dropout"],
        condition_drop=args["cond_mask_prob"],
        time_token=args["emb_trans_dec"],
        mask_frames=args["mask_frames"],
        context_len=args["context_len"],
        pred_len=args["pred_len"] or args["context_len"],
        goals=args["multi_target_cond"],
        goal_layers=args["target_enc_layers"],
        gru_over_batch=args["arch"] == "gru" and not args["gru_over_time"],
        words=args["words"],
        frames_per_token=args["frames_per_token"],
        overlap=args["overlap"],
        refine=args["refine"],
    )


def _choose_average(content: dict[str, Any], args: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The state dict to use of a file of either form."""
    for key, what in _OTHER_FORMS.items():
        if key in content:
            raise InputError(f"{path}: {what}")
    if "model" in content:
        wanted = "model_avg" if args["use_ema"] else "model"
        if wanted not in content:
            raise InputError(f"{path}: args.json says use_ema, but the file holds no averaged weights (model_avg)")
        content = content[wanted]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: unknown form, with entries {_some(content)}; expected is a state dict of tensors")
    return content


def _check_trunk(state: dict[str, Tensor], arch: str, path: Path) -> None:
    found = {_TRUNKS[name.split(".")[0]] for name in state if name.split(".")[0] in _TRUNKS}
    if found != {arch}:
        held = " and ".join(sorted(found)) or "no network of MDM's"
        raise InputError(f"{path}: holds {held}, but args.json beside it says {arch}; take both from one folder")


def load_state(denoiser: Denoiser, state: dict[str, Tensor], path: Path) -> None:
    """Puts weights into the network. Position tables are left out of it, the text encoder's entries too.

    Raises InputError that names what is missing, left over, or shaped otherwise.
    """
    own = {name: value for name, value in denoiser.state_dict().items() if not name.endswith(".pe")}
    given = {n: v for n, v in state.items() if not n.endswith(".pe") and not n.startswith("clip_model.")}
    problems = [f"missing {_some(missing)}"] if (missing := [n for n in own if n not in given]) else []
    problems += [f"left over {_some(extra)}"] if (extra := [n for n in given if n not in own]) else []
    problems += [
        f"{name} is {tuple(given[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ][:3]
    if problems:
        raise InputError(f"{path}: not the network that args.json beside it describes: {'; '.join(problems)}")
    denoiser.load_state_dict(given, strict=False)


def _some(names: Any, most: int = 5) -> str:
    names = list(map(str, names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def save_checkpoint(
    path: str | Path, denoiser: Denoiser, args: dict[str, Any], average: dict[str, Tensor] | None = None
) -> None:
    """Writes weights `path` and args.json beside it in the reference's form, with an average if there is one."""
    path = Path(path)
    state = denoiser.state_dict()
    torch.save(state if average is None else {"model": state, "model_avg": average}, path)
    args = {**DEFAULTS, **OURS, **args, "use_ema": average is not None}
    (path.parent / "args.json").write_text(json.dumps(args, indent=4, sort_keys=True) + "\n")
