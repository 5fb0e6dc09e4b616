"""The ``fantasyid`` command: the whole way without ComfyUI.

fantasyid generate --reference photo.jpg --prompt "…" --out clip.mp4
fantasyid demo --out out
fantasyid evaluate --reference photo.jpg clip.mp4
fantasyid doctor | convert | verify
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .doctor import run_doctor
from .errors import FantasyIDError, InputError
from .faces.detect import RULES
from .faces.detectors import DETECTORS
from .generate import GenerateOptions, generate, quiet, video_size
from .geometry.extractors import EXTRACTORS
from .images import load_photograph
from .input_path import INPUT_PATHS
from .model import MINI, FantasyIDModel, load_model
from .out_of_memory import is_out_of_memory
from .processes import Processes, joined_processes
from .progress import progress_bar, say
from .training.command import add_train
from .video.levers import PRESETS as SPEEDS
from .video.memory_presets import AUTO, MEMORY_CHOICES
from .video.skip_layers import MINI_SCALE, SkipLayers, parse_layers
from .weights.catalog import ASSETS

if TYPE_CHECKING:
    from .out_of_memory import Ladder

EXAMPLE = ASSETS / "astronaut.png"
DEMO_FPS = 8.0
DEMO_PROMPT = "A woman in an orange space suit smiles and slowly turns her head to the left, bright studio light"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command. Returns the exit code: 0 done, 1 a check failed or the input was wrong, 130 cancelled."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except FantasyIDError as error:
        sys.stderr.write(f"fantasyid: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nfantasyid: cancelled; nothing was written half.\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fantasyid", description="From one photograph and a prompt to a video.")
    parser.add_argument("--version", action="version", version=f"fantasyid {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_generate(
        commands.add_parser("generate", help="make one video from one photograph and a prompt, on one card or several")
    )
    _add_batch(
        commands.add_parser("batch", help="make every photograph with every prompt and seed, on one card or several")
    )
    _add_demo(commands.add_parser("demo", help="run the whole way on the example photograph and show every stage"))
    _add_doctor(
        commands.add_parser("doctor", help="say what is installed, which weights are present, and what is missing")
    )
    _add_convert(commands.add_parser("convert", help="turn the official checkpoint folder into one compact file"))
    _add_evaluate(
        commands.add_parser("evaluate", help="measure how well videos keep a person: RS, IFS, FM, FID and more")
    )
    add_train(commands.add_parser("train", help="make training data, and train the mini on it"))
    _add_verify(commands.add_parser("verify", help="compute the golden numbers of the authors' release and compare"))
    return parser


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reference", type=Path, required=True, help="a photograph with a face")
    parser.add_argument("--prompt", required=True, help="what happens in the video")
    parser.add_argument("--out", type=Path, required=True, help="the video to write: .mp4 or .webp")
    parser.add_argument("--negative", default="", help="what must not be in the video (default: nothing)")
    parser.add_argument("--model", default="mini", help="'mini', or the FantasyID folder or converted file")
    _add_models(parser)
    parser.add_argument("--seed", type=int, default=0, help="same seed, same video (default: 0)")
    parser.add_argument("--steps", type=int, default=None, help="denoising steps (default: the model's own)")
    parser.add_argument("--guidance", type=float, default=None, help="guidance scale (default: the model's own)")
    parser.add_argument("--strength", type=float, default=1.0, help="identity strength, 0..2 (default: 1)")
    parser.add_argument(
        "--identity-guidance", type=float, default=0.0, help="guidance of the identity, 0..10 (default: 0, off)"
    )
    parser.add_argument(
        "--reference-guidance",
        type=float,
        default=None,
        help="guidance of the whole person, picture included, 0..10 (default: the model's own)",
    )
    parser.add_argument(
        "--skip-layer-guidance",
        type=float,
        default=None,
        help="against faces that blur and double, 0..10; a third more work (default: the model's own)",
    )
    parser.add_argument("--skip-layers", default="", metavar="N,N", help="whose attention (default: the middle)")
    parser.add_argument("--frames", type=int, default=None, help="number of frames, 8k+1 (default: the model's own)")
    parser.add_argument(
        "--size", type=_size, default=None, metavar="WxH", help="e.g. 720x480 (default: the model's own)"
    )
    parser.add_argument("--speed", choices=tuple(SPEEDS), default="exact", help="see docs/speed.md (default: exact)")
    _add_memory(parser)
    parser.add_argument("--fps", type=int, default=8, help="frames per second of the file (default: 8)")
    parser.add_argument("--face", choices=RULES[:-1], default="largest", help="which face of several")
    parser.add_argument("--detector", choices=tuple(DETECTORS), default="yunet", help="face detector")
    parser.add_argument("--geometry", choices=tuple(EXTRACTORS), default="parametric head", help="3D face extractor")
    parser.add_argument("--input-path", choices=INPUT_PATHS, default="recommended", help="see docs/input-paths.md")
    parser.set_defaults(run=_generate)


def _add_batch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reference", type=Path, nargs="+", required=True, help="photographs, each with a face")
    parser.add_argument("--prompts", type=Path, required=True, help="a text file with one prompt per line")
    parser.add_argument("--seeds", type=int, default=1, help="how many of each: seeds 0, 1, … (default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the videos; the same command goes on")
    parser.add_argument("--model", default="mini", help="'mini', or the FantasyID folder or converted file")
    _add_models(parser)
    parser.add_argument("--steps", type=int, default=None, help="denoising steps (default: the model's own)")
    parser.add_argument("--guidance", type=float, default=None, help="guidance scale (default: the model's own)")
    _add_memory(parser)
    parser.add_argument("--fps", type=int, default=8, help="frames per second of the files (default: 8)")
    parser.set_defaults(run=_batch)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("out"), help="the folder for the results (default: out)")
    parser.add_argument("--reference", type=Path, default=EXAMPLE, help="another photograph")
    parser.add_argument("--prompt", default=DEMO_PROMPT, help="another prompt")
    parser.set_defaults(run=_demo)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    _add_models(parser)
    parser.set_defaults(run=lambda options: run_doctor(options.models))


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="the official folder")
    parser.add_argument("out", type=Path, help="the .safetensors file to write")
    parser.add_argument("--dtype", default="bfloat16", help="bfloat16 (default), float16 or float32")
    parser.add_argument("--eva", type=Path, help="EVA02_CLIP_L_336_psz14_s6B.pt, where it is not in the folder")
    parser.add_argument("--vae", type=Path, help="the vae folder, where it is not in the folder")
    parser.set_defaults(run=_convert)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="the folder with the golden files")
    parser.set_defaults(run=_verify)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    several: dict[str, Any] = {"type": Path, "action": "append", "default": []}
    parser.add_argument("videos", type=Path, nargs="+", help="videos, animated pictures, or folders of frames")
    parser.add_argument(
        "--reference", required=True, **several, help="the photograph: one for all videos, or one per video in order"
    )
    parser.add_argument("--other", **several, help="another photograph of the person, for the copy-paste score")
    parser.add_argument("--gallery", **several, help="photographs of other people, for rank-1: a file or a folder")
    parser.add_argument("--real", **several, help="real faces for FID: a video, a photograph, or a folder of them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured to this file")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument(
        "--embedder",
        choices=("dlib", "arcface", "synthetic-heads"),
        default="dlib",
        help="see docs/metrics.md; synthetic-heads is for drawn heads only (default: dlib)",
    )
    parser.add_argument(
        "--insightface", type=Path, metavar="DIR", help="for arcface: the folder with insightface's packs"
    )
    parser.add_argument("--pack", default="antelopev2", help="for arcface: the pack (default: antelopev2)")
    parser.add_argument("--folder-fps", type=float, default=8.0, help="frame rate of folders of frames (default: 8)")
    parser.set_defaults(run=_evaluate)


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="ComfyUI's models folder; may be given several times",
    )


def _add_memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--memory",
        choices=MEMORY_CHOICES,
        default=AUTO,
        help="keep to a card of so many GB, see docs/memory.md (default: auto, by the free memory of a CUDA or ROCm "
        "card; without one: off)",
    )
    parser.add_argument(
        "--weights",
        choices=("auto", "fp8"),
        default="auto",
        help="fp8: keep the transformer's in 8 bits, a little over half the memory and a slightly other video "
        "(default: as they are)",
    )


def _generate(options: argparse.Namespace) -> int:
    from .video.files import write_mp4, write_webp
    from .video.parallel import shared_tokens
    from .video.placement import check_shared

    write = {".mp4": write_mp4, ".webp": write_webp}.get(options.out.suffix.lower())
    if write is None:
        raise InputError(f"The video's name must end in .mp4 or .webp, but it is {options.out.name}.")
    if not options.out.resolve().parent.is_dir():
        raise InputError(f"The folder {options.out.resolve().parent} does not exist; make it, or choose another.")
    width, height = options.size or (None, None)
    choices = GenerateOptions(
        prompt=options.prompt,
        negative_prompt=options.negative,
        seed=options.seed,
        steps=options.steps,
        guidance_scale=options.guidance,
        strength=options.strength,
        frames=options.frames,
        height=height,
        width=width,
        detector=options.detector,
        choose=options.face,
        extractor=options.geometry,
        input_path=options.input_path,
        levers=SPEEDS[options.speed],
        identity_guidance=options.identity_guidance,
        reference_guidance=options.reference_guidance,
        skip_layers=_skip_layers(options),
    )
    photograph = load_photograph(options.reference)
    with joined_processes() as processes:
        memory = options.memory if processes.count == 1 else check_shared(options.memory)
        model, ladder = _loaded(options, memory, processes, choices)
        with shared_tokens(model.transformer):
            made = generate(photograph, model, choices, progress_bar if processes.is_first else quiet, ladder)
        if processes.is_first:
            write(options.out, made.frames, options.fps)
            say(str(options.out), model.notice)
    return 0


def _skip_layers(options: argparse.Namespace) -> SkipLayers | None:
    """As asked for; None = the model's own."""
    layers = parse_layers(options.skip_layers)
    if options.skip_layer_guidance is None and not layers:
        return None
    return SkipLayers(MINI_SCALE if options.skip_layer_guidance is None else options.skip_layer_guidance, layers)


def _loaded(
    options: argparse.Namespace, memory: str, processes: Processes, choices: GenerateOptions
) -> tuple[FantasyIDModel, Ladder]:
    """The model, and how it keeps to the memory of this process's device."""
    from .video.memory_plan import Video
    from .video.placement import is_placed, keep_in_8_bits, ladder_for

    device = "cpu" if is_placed(memory, processes.device) else processes.device
    try:
        model = load_model(options.model, models_dirs=options.models, device=device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"The model does not fit into the memory of {device}; choose a smaller card with --memory, or close what "
            "else uses it."
        ) from error
    if options.weights == "fp8":
        keep_in_8_bits(model.transformer)
    video = Video(*video_size(model, choices))
    return model, ladder_for(model, memory, processes.device, video, _note)


def _batch(options: argparse.Namespace) -> int:
    from .batch import part_of, plan, run_batch
    from .video.files import write_mp4

    try:
        prompts = options.prompts.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The prompts cannot be read from {options.prompts}; give a text file, one per line."
        ) from error
    jobs = plan(options.reference, prompts, range(options.seeds), options.out)
    with joined_processes() as processes:
        choices = GenerateOptions("", steps=options.steps, guidance_scale=options.guidance)
        model, ladder = _loaded(options, options.memory, processes, choices)
        failures = run_batch(
            part_of(jobs, processes.rank, processes.count),
            model,
            choices,
            lambda path, frames: write_mp4(path, frames, options.fps),
            say,
            ladder,
        )
    say(*(f"Not made: {failure}" for failure in failures))
    return 1 if failures else 0


def _demo(options: argparse.Namespace) -> int:
    from .show import save_generation

    model = load_model(MINI)
    made = generate(load_photograph(options.reference), model, GenerateOptions(options.prompt), progress_bar)
    for path in save_generation(made, options.out, options.prompt, model.notice, DEMO_FPS):
        say(str(path))
    say("", model.notice, f"Look at {options.out / 'contact_sheet.png'} first.")
    return 0


def _convert(options: argparse.Namespace) -> int:
    from .weights.convert import run_convert

    return run_convert(
        options.source, options.out, options.dtype, options.eva, options.vae, progress_bar("converting, MB")
    )


def _evaluate(options: argparse.Namespace) -> int:
    from .evaluation.command import EvaluateOptions, run_evaluate

    given = EvaluateOptions(
        videos=options.videos,
        references=options.reference,
        others=options.other,
        gallery=options.gallery,
        real=options.real,
        json=options.json,
        markdown=options.markdown,
        embedder=options.embedder,
        insightface=options.insightface,
        pack=options.pack,
        folder_fps=options.folder_fps,
    )
    return run_evaluate(given, progress_bar)


def _verify(options: argparse.Namespace) -> int:
    from .verify import run_verify

    return run_verify(options.directory)


def _note(sentence: str) -> None:
    """A line of its own on standard error, above a bar that runs."""
    from tqdm import tqdm

    tqdm.write(f"fantasyid: {sentence}", file=sys.stderr)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"write the size as WIDTHxHEIGHT, e.g. 720x480, not {text!r}")
    return int(width), int(height)


if __name__ == "__main__":
    raise SystemExit(main())
