"""The command line: `thetafit COMMAND ...`."""

import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from fitting.export import DEFAULT_FORMATS, FORMATS
from fitting.export.bones import RIGS
from fitting.version import __version__
from models.errors import InputError
from models.skeleton import SKELETONS

if TYPE_CHECKING:
    from fitting.generate import Request

FORMAT_TABLE = "\n".join(
    (
        "formats (docs/formats.md has axes, units and what is lost):",
        *(f"  {name:<13}{format.doc}" for name, format in FORMATS.items()),
        "with the bone names of another rig behind a colon: "
        + ", ".join(f"{name}:{'|'.join(RIGS)}" for name, format in FORMATS.items() if format.rigged),
    )
)


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 some clips failed, 2 nothing could run."""
    config = build_parser().parse_args(args)
    if config.subcommand == "doctor":  # it works where Lightning does not import
        from fitting.doctor import doctor

        return doctor(config.doctor.device, config.doctor.body, config.doctor.install)
    from fitting.runner import guarded  # Lightning, which --help need not wait for

    commands = {
        "fit": fit,
        "generate": generate,
        "edit": edit,
        "convert": convert,
        "render": render,
        "inspect": inspect,
        "prepare": prepare,
        "evaluate": evaluate,
        "refine": refine,
        "demo": demo,
        "stream": stream,
    }
    return guarded(commands[config.subcommand], config[config.subcommand])


def build_parser() -> ArgumentParser:
    """The parser of all commands; an argument it does not know ends with its message and exit code 2."""
    about = "Motion joints in, a moving SMPL body out."
    plain = RawDescriptionHelpFormatter  # the commands take it over
    parser = ArgumentParser(prog="thetafit", description=about, version=__version__, formatter_class=plain)
    commands = parser.add_subcommands()
    commands.add_subcommand("fit", fit_parser(), help="fit SMPL to motion files and export what moves")
    commands.add_subcommand("generate", generate_parser(), help="make motion from sentences")
    commands.add_subcommand("edit", edit_parser(), help="make parts of a motion anew from a sentence")
    commands.add_subcommand("convert", convert_parser(), help="write fits in other formats, without fitting again")
    commands.add_subcommand("render", render_parser(), help="film and pictures of fits, without fitting again")
    commands.add_subcommand("inspect", inspect_parser(), help="say what is in a file, and what to do with it")
    commands.add_subcommand("prepare", prepare_parser(), help="make a data set of motion and captions to train MDM on")
    commands.add_subcommand("evaluate", evaluate_parser(), help="measure fits against their input, and against a truth")
    commands.add_subcommand("refine", refine_parser(), help="move a fit until its silhouettes are those of masks")
    commands.add_subcommand("demo", demo_parser(), help="from a sentence to a film of a moving body")
    commands.add_subcommand("stream", stream_parser(), help="fit frames as they come, line by line")
    commands.add_subcommand(
        "doctor", doctor_parser(), help="say what is installed, what does not fit, and what mends it"
    )
    return parser


def doctor_parser() -> ArgumentParser:
    """The arguments of `thetafit doctor`."""
    parser = ArgumentParser(description="Say what is installed here, what does not fit together, and what mends it.")
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="the device you will give (default: %(default)s)"
    )
    parser.add_argument("--body", metavar="FILE", help="the body file you will give")
    what = "make an environment of its own with it first"
    parser.add_argument("--install", choices=["blender", "pyrender"], help=what)
    return parser


def demo_parser() -> ArgumentParser:
    """The arguments of `thetafit demo`."""
    about = "From a sentence to a moving body: generate a motion with the small model, fit and film it."
    parser = ArgumentParser(description=about)
    parser.add_argument("--out", default="demo", metavar="DIR", help="output folder (default: %(default)s)")
    return parser


def convert_parser() -> ArgumentParser:
    """The arguments of `thetafit convert`."""
    about = "Write fits in other formats, without fitting again; a folder's tree is kept."
    parser = ArgumentParser(description=about, epilog=FORMAT_TABLE)
    sources = (
        "NAME.npz or NAME_smpl_params.npy of a fit, folders of them; motion files for the formats joints and features"
    )
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help=sources)
    parser.add_argument("--to", metavar="LIST", required=True, help="what to write, separated by commas")
    parser.add_argument("--out", metavar="DIR", default="converted", help="output folder (default: %(default)s)")
    parser.add_argument("--body", metavar="FILE", help="the body file of fits to another than the embedded body")
    parser.add_argument("--stats", metavar="DIR", help="folder with Mean.npy and Std.npy, for normalised features")
    rate = "frames a second of what is written, instead of the clip's"
    parser.add_argument("--out-fps", metavar="F", type=float, help=rate)
    return parser


def render_parser() -> ArgumentParser:
    """The arguments of `thetafit render`."""
    about = "Films, stills and posters of fits, without fitting again; several clips stand side by side."
    parser = ArgumentParser(description=about, epilog="docs/film.md shows what each option looks like.")
    sources = "NAME.npz or NAME_smpl_params.npy of a fit, folders of them"
    parser.add_argument("sources", metavar="RESULT", nargs="+", help=sources)
    out = "film .mp4, .mkv or .gif; a name without suffix is a folder of PNGs; with --still a .png"
    parser.add_argument("--out", metavar="FILE", required=True, help=out)

    def add(name: str, metavar: str, text: str, default: object = None) -> None:
        text += " (default: %(default)s)" if default else ""
        parser.add_argument(name, metavar=metavar, help=text, default=default)

    add("--camera", "NAME", "follow, fixed, orbit, front, side, back; grid is front, side and back", "follow")
    add("--style", "NAME", "body; skeleton; both, one inside the other; ghost, the input's joints in the body", "body")
    add("--engine", "NAME", "torch; blender: Workbench for films, Cycles for stills; pyrender, OpenGL", "torch")
    add("--size", "N|WxH", "pixels of one view (default: 512; a poster is 1600 wide)")
    add("--still", "WHAT", "one picture: a frame's number, or poster, the whole path")
    parser.add_argument("--transparent", action="store_true", help="no floor, only its shadow: .gif, PNGs, stills")
    add("--blend", "FILE", "save Blender's scene, to go on by hand")
    add("--body", "FILE", "the body file of fits to another than the embedded body")
    add("--device", "NAME", "auto, cpu, cuda or cuda:N, for the torch engine", "cpu")
    return parser


def inspect_parser() -> ArgumentParser:
    """The arguments of `thetafit inspect`."""
    about = "Say what is in a file: every key, its shape and meaning, what looks wrong, and the command to run next."
    epilog = (
        "Reads results.npy, joints, features, smpl_params.npy, AMASS and other npz, body files, pose priors,\n"
        "checkpoints with args.json, GLB, BVH, report.json. Nothing in a file is ever executed."
    )
    parser = ArgumentParser(description=about, epilog=epilog)
    parser.add_argument("files", metavar="FILE", nargs="+", help="files to look into")
    parser.add_argument("--json", action="store_true", help="print the same as JSON")
    return parser


def evaluate_parser() -> ArgumentParser:
    """The arguments of `thetafit evaluate`."""
    about = "Measure fits, NAME.npz as `thetafit fit` writes them: before and after, and against a truth."
    parser = ArgumentParser(description=about, epilog="docs/metrics.md defines every number.")
    results = "NAME.npz files, or folders of them"
    parser.add_argument("results", metavar="RESULT", nargs="+", help=results)
    truth = "npz with the true joints, or poses, trans and betas; for several results a folder of the same names"
    parser.add_argument("--truth", metavar="FILE", help=truth)
    parser.add_argument("--body", metavar="FILE", help="the body file of fits to another than the embedded body")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there too")
    logger = "wandb: the numbers to W&B, with the fits they are of; needs --json (default: %(default)s)"
    parser.add_argument("--logger", choices=["none", "wandb"], default="none", help=logger)
    return parser


def refine_parser() -> ArgumentParser:
    """The arguments of `thetafit refine`."""
    about = "Move a fit a little, until its silhouettes are those of masks seen by known cameras (docs/refine.md)."
    parser = ArgumentParser(description=about, epilog=FORMAT_TABLE)
    parser.add_argument("result", metavar="RESULT", help="NAME.npz of a fit")
    masks = "folder of masks VIEW_FRAME.png, such as front_000.png; the person white"
    parser.add_argument("--silhouettes", metavar="DIR", required=True, help=masks)
    parser.add_argument("--camera", metavar="FILE", required=True, help="cam.json: the camera of each view")
    parser.add_argument("--out", metavar="DIR", default="refined", help="output folder (default: %(default)s)")
    parser.add_argument("--body", metavar="FILE", help="the body file of a fit to another than the embedded body")
    formats = "what to write, separated by commas (default: %(default)s)"
    parser.add_argument("--formats", metavar="LIST", default=",".join(DEFAULT_FORMATS), help=formats)
    return parser


def prepare_parser() -> ArgumentParser:
    """The arguments of `thetafit prepare`."""
    about = "Make a data set in HumanML3D's layout of BVH files, joints and SMPL parameters (docs/training-data.md)."
    parser = ArgumentParser(description=about)
    parser.add_argument("sources", metavar="SOURCES", nargs="+", help="files, folders or globs: .bvh, .npy, .npz, .pkl")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
    texts = "CSV with the columns clip and caption (start, end), or a folder of NAME.txt; else files' texts or names"
    parser.add_argument("--texts", metavar="FILE", help=texts)
    parser.add_argument("--fps", type=float, metavar="F", help="frames a second, where the file is wrong or silent")
    parser.add_argument("--up", default="y", metavar="AXIS", help="the upward axis, y or z (default: %(default)s)")
    parser.add_argument("--stats", metavar="DIR", help="folder with Mean.npy and Std.npy, for normalised features")
    parser.add_argument("--body", metavar="FILE", help="the body that SMPL parameters move (default: the embedded one)")
    return parser


def stream_parser() -> ArgumentParser:
    """The arguments of `thetafit stream`."""
    about = "Fit frames as they come: a line with 22 x 3 numbers in, a line of JSON with the pose out (docs/stream.md)."
    parser = ArgumentParser(description=about)
    parser.add_argument("--fps", type=float, default=20.0, metavar="F", help="frames a second (default: %(default)s)")
    parser.add_argument("--body", metavar="FILE", help="any SMPL-family file instead of the embedded body")
    port = "answer clients of 127.0.0.1 on this port, 0 = any free one, instead of standard input"
    parser.add_argument("--port", type=int, metavar="N", help=port)
    return parser


def fit_parser() -> ArgumentParser:
    """The arguments of `thetafit fit`."""
    about = "Fit SMPL to motion files; write parameters, mesh, film and report."
    parser = ArgumentParser(description=about, epilog=FORMAT_TABLE)

    def add(name: str, metavar: str, text: str, default: object = None, **options: Any) -> None:
        text += " (default: %(default)s)" if default else ""
        parser.add_argument(name, metavar=metavar, help=text, default=default, **options)

    sources = "motion files, folders or globs: MDM's results.npy, joints, HumanML3D features"
    parser.add_argument("sources", metavar="SOURCES", nargs="+", help=sources)
    add("--out", "DIR", "output folder", "outputs")
    add("--body", "FILE", "any SMPL-family file, .npz or .pkl, instead of the embedded body")
    add("--preset", "NAME", "careful, quick, reference (MDM's own energy) or a YAML file", "careful")
    add("--start", "NAME", "geometric; learned: by a network, with twist; or the file of its training", "geometric")
    add("--formats", "LIST", "what to write, separated by commas", ",".join(DEFAULT_FORMATS))
    add("--skeleton", "NAME", f"{', '.join(SKELETONS)} or a YAML file, where the number of joints does not tell")
    add("--fps", "F", "frames a second, where the file is wrong or does not tell", type=float)
    add("--out-fps", "F", "frames a second of what is written, instead of the input's", type=float)
    add("--up", "AXIS", "the upward axis of the input: y (usual), z, x, or with the = sign --up=-y, -z, -x")
    add("--floor", "M", "height of the floor in metres, where the feet of a clip do not tell", type=float)
    add("--samples", "LIST", "only these samples of an MDM file, such as 0,2")
    add("--stats", "DIR", "folder with Mean.npy and Std.npy, for normalised features")
    add("--prior", "FILE", "gmm_08.pkl, or an npz of build_prior or of a tuning, instead of the embedded pose prior")
    add("--mean-params", "FILE", "neutral_smpl_mean_params.h5 instead of the embedded start")
    add("--logger", "NAME", "csv, or wandb as well: online with an account, else offline", "csv")
    add("--device", "NAME", "auto, cpu, cuda or cuda:N", "auto")
    add("--devices", "N", "share the clips out among N processes, each on a GPU or core of its own", 1, type=int)
    adapt = "fit the length of each bone too: for people outside the body's shape space, such as raw motion capture"
    parser.add_argument("--adapt-skeleton", action="store_true", help=adapt)
    resume = "leave out what an earlier run finished in DIR from the same input and settings"
    parser.add_argument("--resume", action="store_true", help=resume)
    return parser


def generate_parser() -> ArgumentParser:
    """The arguments of `thetafit generate`."""
    about = "Make motion from sentences; write results.npy and films of stick figures."
    epilog = "Without --model by the small model that comes along. docs/mdm.md says what MDM's own checkpoints need."
    parser = ArgumentParser(description=about, epilog=epilog)

    prompts = "what the person does, each a sentence in quotes"
    parser.add_argument("prompt", metavar="PROMPT", nargs="*", default=[], help=prompts)
    parser.add_argument("--prompts", metavar="FILE", help="a text file with a prompt a line")
    parser.add_argument("--prefix", metavar="FILE", help="the motion that models with a prefix (DiP) go on from")
    seconds = "length of each motion: by default the small model's guess, else 6"
    parser.add_argument("--seconds", metavar="S", type=float, help=seconds)
    add_sampling(parser)
    return parser


def edit_parser() -> ArgumentParser:
    """The arguments of `thetafit edit`."""
    about = "Make parts of a motion anew from a sentence and keep the rest; writes what `thetafit generate` writes."
    epilog = (
        "thetafit edit walk.npy 'a person walks and bows' --out bow            # the middle half is made anew\n"
        "thetafit edit walk.npy 'a person waves' --joints upper_body --out wave\n"
        "thetafit edit walk.npy 'a person waves' --joints left_elbow,left_wrist --frames 20-60 --out left"
    )
    parser = ArgumentParser(description=about, epilog=epilog)
    parser.add_argument("motion", metavar="MOTION", help="22 joints or features at 20 frames a second, up to 196")
    prompt = "what the person shall do, a sentence in quotes (default: the text of MOTION)"
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help=prompt)
    parser.add_argument(
        "--frames", metavar="A-B", help="make the frames from A to before B anew (default: middle half)"
    )
    parser.add_argument(
        "--joints", metavar="LIST", default="", help="make only these anew: upper_body, names of joints"
    )
    mask = "npy (frames, 22) of 0 and 1, 1 = made anew, instead of --frames and --joints"
    parser.add_argument("--mask", metavar="FILE", help=mask)
    add_sampling(parser)
    return parser


def add_sampling(parser: ArgumentParser) -> None:
    """The arguments of both commands that sample a checkpoint, by the fields' names of fitting.generate.Request."""

    def add(name: str, metavar: str, text: str, default: object = None, kind: type = str) -> None:
        text += " (default: %(default)s)" if default is not None else ""
        parser.add_argument(name, metavar=metavar, help=text, default=default, type=kind)

    parser.add_argument("--out", metavar="DIR", required=True, help="output folder")
    add("--model", "FILE", "MDM's weights, such as model000475000.pt with its args.json, instead of the small model")
    add("--stats", "DIR", "folder with Mean.npy and Std.npy of the checkpoint's training data, MDM's dataset/HumanML3D")
    add("--clip", "FILE", "CLIP's ViT-B-32.pt, where it is not in its usual place; for BERT models DistilBERT's folder")
    add("--num-samples", "N", "motions of each prompt, as samples of their own", 1, int)
    add("--num-repetitions", "N", "repetitions of all samples", 1, int)
    add("--guidance", "SCALE", "how much the text counts: by default 2.5, with a prefix 7.5, as in MDM", kind=float)
    add(
        "--steps",
        "N",
        "at most N noise levels, by DPM-Solver++: by default 10 of the small model, else all in turn as MDM",
        kind=int,
    )
    add("--seed", "N", "the same seed gives the same motion", 10, int)
    mesh = "guide by losses on the fitted mesh: feet stand, bones keep their lengths; try 0.2 (default: off)"
    add("--mesh-guidance", "SCALE", mesh, kind=float)
    add("--mesh-steps", "N", "steps of --mesh-guidance, a fit each, at the last noise level", 6, int)
    add("--device", "NAME", "auto, cpu, cuda or cuda:N", "auto")
    logger = "wandb: films and results.npy to W&B, with what they were made from (default: %(default)s)"
    parser.add_argument("--logger", choices=["none", "wandb"], default="none", help=logger)
    parser.add_argument("--fit", action="store_true", help="then `thetafit fit` the motion into the same folder")


def comma_list(text: str) -> list[str]:
    """`npz,glb` -> ["npz", "glb"]."""
    return [name.strip() for name in text.split(",") if name.strip()]


def comma_numbers(text: str | None) -> list[int] | None:
    """`0,2` -> [0, 2]."""
    if text is None:
        return None
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise InputError(
            f"--samples takes numbers of samples, separated by commas, such as 0,2; got {text!r}."
        ) from None


def fit(config: Namespace) -> int:
    """`thetafit fit`."""
    from fitting.runner import fit_files

    run = {name: config[name] for name in ("resume", "logger", "device", "devices", "out_fps")}
    run["formats"] = comma_list(config.formats)
    given = ("body", "preset", "prior", "mean_params", "adapt_skeleton", "floor", "start")
    model = {name: config[name] for name in given}
    reading = {name: config[name] for name in ("skeleton", "fps", "up", "stats")}
    reading["samples"] = comma_numbers(config.samples)
    text = fit_parser().dump(config, skip_unset=False)
    return fit_files(config.sources, config.out, **run, model=model, reading=reading, config=text)


def generate(config: Namespace) -> int:
    """`thetafit generate`."""
    from fitting.generate import generate_files, read_prompts

    request = sampling_request(config, read_prompts(config.prompt, config.prompts))
    request = replace(request, seconds=config.seconds, prefix=config.prefix)
    return log_and_fit(config, generate_files(request, config.out, config.device))


def edit(config: Namespace) -> int:
    """`thetafit edit`."""
    from fitting.edit import Change, edit_files
    from fitting.generate import read_prompts

    change = Change(config.frames, tuple(comma_list(config.joints)), config.mask)
    request = sampling_request(config, read_prompts([config.prompt] if config.prompt is not None else [], None))
    return log_and_fit(config, edit_files(config.motion, change, request, config.out, config.device))


def sampling_request(config: Namespace, prompts: list[str]) -> "Request":
    """The request that add_sampling's arguments make; without --model to the small model."""
    from fitting.generate import SMALL_MODEL, Request

    names = (
        "stats",
        "clip",
        "num_samples",
        "num_repetitions",
        "guidance",
        "steps",
        "seed",
        "mesh_guidance",
        "mesh_steps",
    )
    return Request(prompts, config.model or str(SMALL_MODEL), **{name: config[name] for name in names})


def log_and_fit(config: Namespace, results: Path) -> int:
    """`--logger wandb` and `--fit`: a results.npy logged, and fitted into its own folder."""
    fit_words = [str(results), "--out", config.out, "--device", config.device]
    if config.logger == "wandb":
        from fitting.tracking.commands import track_generation

        track_generation(results.parent, config.get("motion"))
        fit_words += ["--logger", "wandb"]
    return fit(fit_parser().parse_args(fit_words)) if config.fit else 0


def convert(config: Namespace) -> int:
    """`thetafit convert`."""
    from fitting.convert import convert_files

    options = (config.body, config.out_fps, config.stats)
    return convert_files(config.sources, comma_list(config.to), config.out, *options)


def render(config: Namespace) -> int:
    """`thetafit render`."""
    from fitting.render.command import Request, render_files

    names = ("camera", "style", "engine", "size", "still", "transparent", "blend", "body", "device")
    return render_files(config.sources, config.out, Request(**{name: config[name] for name in names}))


def inspect(config: Namespace) -> int:
    """`thetafit inspect`."""
    from fitting.inspect import inspect_files

    return inspect_files(config.files, config.json)


def prepare(config: Namespace) -> int:
    """`thetafit prepare`."""
    from fitting.prepare import prepare_files

    reading = {name: config[name] for name in ("fps", "up", "stats")}
    return prepare_files(config.sources, config.out, config.texts, config.body, reading)


def evaluate(config: Namespace) -> int:
    """`thetafit evaluate`."""
    from fitting.evaluate import evaluate_files

    return evaluate_files(config.results, config.truth, config.body, config.json, config.logger)


def refine(config: Namespace) -> int:
    """`thetafit refine`."""
    from fitting.refine import refine_file

    formats = comma_list(config.formats)
    return refine_file(config.result, config.silhouettes, config.camera, config.out, config.body, formats)


def demo(config: Namespace) -> int:
    """`thetafit demo`."""
    from fitting.demo import show_demo

    def fit_file(source: Path, out: Path) -> int:
        return fit(fit_parser().parse_args([str(source), "--out", str(out)]))

    return show_demo(Path(config.out), fit_file)


def stream(config: Namespace) -> int:
    """`thetafit stream`."""
    from fitting.streaming import stream_lines

    return stream_lines(config.fps, config.body, config.port)


if __name__ == "__main__":
    sys.exit(main())
