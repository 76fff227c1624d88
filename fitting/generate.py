"""`thetafit generate`: sentences become motion, by a checkpoint of MDM, in the files that MDM itself would write."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from fitting.data import load_motions
from fitting.device import device_of
from fitting.export.atomic import atomic_path
from fitting.folder import check_folder
from fitting.results_file import save_results
from models.errors import InputError
from models.mdm.checkpoint import DATASETS, Checkpoint, load_checkpoint
from models.mdm.features import features_to_joints, joints_to_features
from models.mdm.generate import FPS, Generator, Kept, sample_seeds
from models.mdm.normalization import Statistics
from models.mdm.text import TextEmbedding, TextEncoder, text_encoder
from models.mdm.words import WordText
from models.skeleton import SKELETONS

DATA_FOLDERS = {"humanml": "HumanML3D", "kit": "KIT-ML"}  # below MDM's folder `dataset`
SKELETON_NAMES = {"humanml": "humanml3d", "kit": "kit"}
NO_PROMPT = "unconstrained"  # the reference's text of motion made without one
SETTINGS = "generate.json"
FILM_SIZE = 384  # pixels
SECONDS = 6.0  # of a motion whose length nobody said
SMALL_MODEL = Path(str(resources.files("models") / "assets" / "small_mdm" / "model.pt"))


@dataclass(frozen=True)
class Request:
    """What is asked for: the fields of `thetafit generate`. It is kept beside the results as generate.json."""

    prompts: list[str]
    model: str
    stats: str | None = None
    clip: str | None = None
    prefix: str | None = None
    seconds: float | None = None
    num_samples: int = 1
    num_repetitions: int = 1
    guidance: float | None = None
    steps: int | None = None
    seed: int = 10
    mesh_guidance: float | None = None
    mesh_steps: int = 6


def read_prompts(given: Sequence[str], file: str | None) -> list[str]:
    """The prompts given, then those of a file, a line each (blank lines are passed over), each on one line.

    Raises InputError for one that is empty, and for a file that cannot be read or holds none.
    """
    for number, prompt in enumerate(given, 1):
        if not prompt.strip():
            raise InputError(f"prompt {number} is empty; say what the person does, such as 'a person walks forward'")
    lines = []
    if file is not None:
        try:
            lines = [line for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--prompts {file}: cannot be read as text ({error})") from None
        if not lines:
            raise InputError(f"--prompts {file}: there is no prompt in it; expected is one a line")
    return [" ".join(prompt.split()) for prompt in (*given, *lines)]


def generate_files(request: Request, out: str, device: str) -> Path:
    """Make what is asked for in the folder `out`; returns the results.npy.

    Beside it: results.txt and results_len.txt, a line a motion, films sampleSS_repRR.mp4 of stick figures, and
    generate.json with the request. Raises InputError before anything is sampled where something cannot be used, and
    where `out` holds the results of another request.
    """
    folder = Path(out)
    check_numbers(request)
    model = open_model(request, device)
    texts = _texts(request, model.generator.checkpoint)
    seconds = [model.seconds(text) if request.seconds is None else request.seconds for text in texts]
    frames = [model.generator.frames(length) for length in seconds]
    prefix = _prefix(request, model.generator.checkpoint, model.statistics)
    embedding = None if model.encoder is None else model.encoder.encode(texts)
    claim(folder, request)
    motions = sampled(model, frames, request, embedding, prefix)
    write_results(folder, motions, texts, request, model.dataset)
    return folder / "results.npy"


def sampled(
    model: "Model",
    frames: Sequence[int],
    request: Request,
    text: TextEmbedding | None,
    prefix: Tensor | None = None,
    kept: Kept | None = None,
) -> list[Tensor]:
    """Joints (frames, J, 3) of each motion, those of equal length sampled together; text: of each; see Generator."""
    repetitions = request.num_repetitions
    seeds = sample_seeds(request.seed, len(frames) // repetitions, repetitions)
    groups = {length: [i for i, own in enumerate(frames) if own == length] for length in sorted(set(frames))}
    progress = Progress(sum(model.generator.evaluations(len(rows), length) for length, rows in groups.items()))
    generator, joints = replace(model.generator, tick=progress), {}
    for length, rows in groups.items():
        texts = None if text is None else text.take(rows)
        made = generator([seeds[i] for i in rows], length, texts, prefix, kept)
        joints |= dict(zip(rows, model.joints(made), strict=True))
    return [joints[i] for i in range(len(frames))]


@dataclass(frozen=True)
class Model:
    """A checkpoint at work, and its data set's statistics. clip: the file of Request."""

    generator: Generator
    statistics: Statistics
    file: str
    clip: str | None

    @property
    def dataset(self) -> str:
        """humanml or kit."""
        return self.generator.checkpoint.args["dataset"]

    @cached_property
    def encoder(self) -> TextEncoder | WordText | None:
        """What reads its sentences, None where it takes none. Raises InputError where that is missing."""
        config = self.generator.checkpoint.denoiser.config
        if config.condition != "text":
            return None
        if config.text_encoder == "words":
            return WordText(Path(self.file).parent)
        return text_encoder(config.text_encoder, self.clip)

    def seconds(self, text: str) -> float:
        """How long a motion of a text is when nobody says: a model of words guesses."""
        of_words = self.generator.checkpoint.denoiser.config.text_encoder == "words"
        return self.encoder.vocabulary.estimate(text) if of_words else SECONDS

    def joints(self, motion: Tensor) -> Tensor:
        """Joints (..., frames, J, 3) of normalised motion, in the data set's unit. InputError for NaN and Inf."""
        joints = features_to_joints(self.statistics.denormalize(motion))
        if not joints.isfinite().all():
            raise InputError(f"{self.file}: its motion is not finite; are the weights whole, and its own?")
        return joints


def open_model(request: Request, device: str) -> Model:
    """What a request asks for, read and checked."""
    checkpoint = load_checkpoint(request.model)
    generator = Generator(checkpoint, request.guidance, request.steps, device_of(device))
    statistics = find_statistics(request.stats, Path(request.model), checkpoint.args["dataset"])
    if request.mesh_guidance is not None:
        generator = through_the_fit(generator, statistics, request)
    return Model(generator, statistics, request.model, request.clip)


def through_the_fit(generator: Generator, statistics: Statistics, request: Request) -> Generator:
    """The generator with guidance by losses on the mesh. Raises InputError for motion without 22 joints."""
    from fitting.mesh_guidance import MeshGuidance  # here, because it loads the fitter

    if generator.checkpoint.args["dataset"] != "humanml":
        raise InputError("--mesh-guidance fits a body to 22 joints, which motion of KIT-ML does not have; leave it out")
    return replace(generator, correct=MeshGuidance(statistics, request.mesh_guidance, request.mesh_steps))


class Progress:
    """Called before every evaluation of the network; shows how many are done where someone watches."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def __call__(self) -> None:
        self.done += 1
        if sys.stderr.isatty():
            end = "\n" if self.done == self.total else ""
            bar = "#" * (30 * self.done // self.total)
            print(f"\rsampling |{bar:<30}| {self.done}/{self.total}", end=end, file=sys.stderr, flush=True)


def check_numbers(request: Request) -> None:
    """Raises InputError for counts below one and a negative seed."""
    for option in ("num_samples", "num_repetitions"):
        if getattr(request, option) < 1:
            raise InputError(f"--{option.replace('_', '-')} {getattr(request, option)}: expected is 1 or more")
    if request.seed < 0:
        raise InputError(f"--seed {request.seed}: expected is 0 or more")


def find_statistics(stats: str | None, model: Path, dataset: str) -> Statistics:
    """Mean.npy and Std.npy of the checkpoint's data set: in `stats`, or where MDM's repository keeps them.

    Without `stats`: beside the weights, then dataset/HumanML3D (KIT-ML) below the folder that holds save/NAME/model.pt,
    then below the current one. Raises InputError that names the places, and for statistics of another data set.
    """
    tree = Path("dataset") / DATA_FOLDERS[dataset]
    places = [Path(stats)] if stats else [model.parent, *(root / tree for root in (*model.parents[2:3], Path()))]
    found = [place for place in places if stats or (place / "Mean.npy").is_file()]
    if not found:
        raise InputError(
            f"Mean.npy and Std.npy of the training data are missing. Searched: {', '.join(map(str, places))}. They "
            f"come with {DATA_FOLDERS[dataset]} and lie in MDM's {tree}: give that folder with --stats DIR"
        )
    statistics, width = Statistics.load(found[0]), DATASETS[dataset][0]
    if len(statistics.mean) != width:
        raise InputError(
            f"{found[0]}: Mean.npy has {len(statistics.mean)} numbers; this checkpoint wants {width} ({dataset})"
        )
    return statistics


def _texts(request: Request, checkpoint: Checkpoint) -> list[str]:
    """A text a motion, all samples of repetition 0 first."""
    condition = checkpoint.denoiser.config.condition
    if condition == "text" and not request.prompts:
        raise InputError("no prompt was given: name one or more, such as 'a person walks forward', or --prompts FILE")
    if condition == "none" and request.prompts:
        raise InputError("this checkpoint is unconstrained, it takes no prompt; --num-samples N says how many motions")
    prompts = request.prompts or [NO_PROMPT]
    return [prompt for prompt in prompts for _ in range(request.num_samples)] * request.num_repetitions


def _prefix(request: Request, checkpoint: Checkpoint, statistics: Statistics) -> Tensor | None:
    """The last frames of a motion file as normalised features (context, 263), for networks that continue one (DiP)."""
    context = checkpoint.denoiser.config.context_len
    if context == 0 and request.prefix is not None:
        raise InputError("--prefix: this checkpoint makes motion from nothing; prefixes are for context_len above 0")
    if context == 0:
        return None
    if request.prefix is None or checkpoint.args["dataset"] != "humanml":
        raise InputError(
            f"this checkpoint continues {context} frames of motion (DiP): give HumanML3D joints or features with "
            "--prefix FILE; of a file with several clips the first is taken"
        )
    motions, failures = load_motions(request.prefix, stats=request.stats)
    if failures or motions[0].joints is None or motions[0].joints.shape[1] != 22 or motions[0].length <= context:
        why = failures[0].message if failures else f"expected are 22 joints in more than {context} frames"
        raise InputError(f"--prefix {request.prefix}: {why}")
    features = joints_to_features(torch.from_numpy(motions[0].joints).double()).float()
    return statistics.normalize(features[-context:])


def claim(folder: Path, request: Request) -> None:
    """Make the folder and note the request in it. Raises InputError where it holds other results."""
    settings, note = asdict(request) | {"model": str(Path(request.model).absolute())}, folder / SETTINGS
    if (folder / "results.npy").exists():
        same = note.is_file() and note.read_text(encoding="utf-8") == _as_json(settings)
        if not same:
            raise InputError(
                f"{folder} holds a results.npy that other settings or another program made; it is not overwritten: "
                "name another folder with --out"
            )
    check_folder(folder)
    with atomic_path(note) as temporary:
        temporary.write_text(_as_json(settings), encoding="utf-8")


def _as_json(settings: dict) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


def write_results(folder: Path, motions: Sequence[Tensor], texts: list[str], request: Request, dataset: str) -> None:
    """results.npy, results.txt, results_len.txt and films of joints (frames, J, 3) each, in the data set's unit."""
    lengths = [len(motion) for motion in motions]
    for name, rows in (("results.txt", texts), ("results_len.txt", lengths)):
        with atomic_path(folder / name) as temporary:
            temporary.write_text("\n".join(map(str, rows)), encoding="utf-8")
    padded = torch.stack([torch.cat((m, m[-1:].expand(max(lengths) - len(m), -1, -1))) for m in motions])
    samples = len(texts) // request.num_repetitions
    save_results(folder / "results.npy", padded.permute(0, 2, 3, 1).numpy(), texts, lengths, samples)
    _film(folder, motions, texts, samples, dataset)


def _film(folder: Path, joints: Sequence[Tensor], texts: list[str], samples: int, dataset: str) -> None:
    """A film of stick figures for each motion."""
    from fitting.render.film import save_film  # here, because it loads the video library
    from fitting.render.sticks import StickFigure

    skeleton = SKELETONS[SKELETON_NAMES[dataset]]
    for index, (clip, text) in enumerate(zip(joints, texts, strict=True)):
        path = folder / f"sample{index % samples:02d}_rep{index // samples:02d}.mp4"
        with atomic_path(path) as temporary:
            save_film(StickFigure(skeleton.unit * clip, skeleton, FPS[dataset], text), temporary, FILM_SIZE)
        print(f"{path}  {clip.shape[0]} frames  {text!r}", flush=True)
