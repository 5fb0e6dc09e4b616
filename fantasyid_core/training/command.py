"""``fantasyid train``: data, autoencoder, latents, text to video, identity, and the networks that read drawn heads."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..identity.branches import BRANCHES
from ..progress import progress_bar, say
from .loop import RunOptions, log_line, run


def add_train(parser: argparse.ArgumentParser) -> None:
    """The stages as sub-commands of ``parser``, each with its ``run``."""
    stages = parser.add_subparsers(required=True, metavar="STAGE")
    data = stages.add_parser("data", help="render clips of synthetic talking heads (docs/synthetic-heads.md)")
    data.add_argument("--out", type=Path, required=True, help="the folder for the shards; the same command resumes")
    data.add_argument("--clips", type=int, required=True, help="how many clips")
    data.add_argument("--seed", type=int, default=0, help="same seed, same clips (default: 0)")
    data.add_argument("--size", type=int, default=64, help="side of the frames in pixels, 64 to 128 (default: 64)")
    data.add_argument("--crop", type=int, default=None, help="side of the reference crops (default: as --size)")
    data.add_argument("--frames", type=int, default=17, help="frames per clip (default: 17)")
    data.add_argument("--references", type=int, default=6, help="crops of the person from elsewhere (default: 6)")
    data.add_argument("--people", type=int, default=None, help="how many people (default: a new one in every clip)")
    data.add_argument("--processes", type=int, default=2, help="how many at a time, one core each (default: 2)")
    data.set_defaults(run=_train_data)
    vae = stages.add_parser("vae", help="train the mini's video autoencoder on such clips (docs/training.md)")
    vae.add_argument("--data", type=Path, required=True, help="the folder that `train data` made")
    vae.add_argument("--frames", type=int, default=5, help="frames of each clip, 4k+1 (default: 5)")
    vae.add_argument("--pictures", type=float, default=0.25, help="share of steps on single frames (default: 0.25)")
    vae.add_argument("--start", type=Path, help="the folder of a finished run, to go on from its VAE")
    vae.add_argument("--decoder-only", action="store_true", help="leave the encoder, and so all latents, as they are")
    _add_run(vae, batch=8, learning_rate=2e-3)
    vae.set_defaults(run=_train_vae)
    latents = stages.add_parser("latents", help="encode clips with a trained VAE, once")
    latents.add_argument("--data", type=Path, required=True, help="the folder that `train data` made")
    latents.add_argument(
        "--vae", type=Path, required=True, help="the folder of a finished `train vae`, or a mini.safetensors"
    )
    latents.add_argument("--out", type=Path, required=True, help="the folder for the shards; the same command resumes")
    latents.add_argument("--own", type=int, default=6, help="views kept of each clip (default: 6, the paper's)")
    latents.add_argument("--elsewhere", type=int, default=3, help="other pictures of the person (default: 3)")
    _add_close_up(latents)
    latents.set_defaults(run=_train_latents)
    embedder = stages.add_parser(
        "embedder", help="train the network that reads drawn heads for the metrics (docs/metrics.md)"
    )
    embedder.add_argument("--data", type=Path, required=True, help="the folder that `train data` made")
    embedder.add_argument(
        "--vae", type=Path, help="a finished `train vae`, or a mini.safetensors, through which some pictures pass"
    )
    _add_run(embedder, batch=120, learning_rate=6e-3)
    embedder.set_defaults(run=_train_embedder)
    reader = stages.add_parser("reader", help="train the network whose eyes `train video --perceptual` takes")
    reader.add_argument("--data", type=Path, required=True, help="the folder that `train latents` made of drawn clips")
    _add_run(reader, batch=128, learning_rate=6e-3)
    reader.set_defaults(run=_train_reader)
    clips = stages.add_parser("clips", help="encode videos of real people, each with a text file beside it, to latents")
    clips.add_argument("--videos", type=Path, required=True, help="a folder of clip.mp4 and clip.txt, and so on")
    clips.add_argument("--vae", type=Path, required=True, help="a finished `train vae`, or a mini.safetensors")
    clips.add_argument("--out", type=Path, required=True, help="the folder for the shards")
    clips.add_argument("--frames", type=int, default=17, help="of each clip, 4k+1 (default: 17)")
    clips.add_argument("--size", type=int, default=64, help="pixels of a clip's side (default: 64)")
    clips.add_argument("--own", type=int, default=6, help="views kept of each clip (default: 6, the paper's)")
    _add_close_up(clips)
    clips.set_defaults(run=_train_clips)
    video = stages.add_parser("video", help="train text to video, then the identity branch, on encoded clips")
    video.add_argument("--data", type=Path, required=True, help="the folder that `train latents` made")
    video.add_argument("--stage", choices=("text", "identity"), default="identity", help="default: identity")
    video.add_argument("--vae", type=Path, help="the folder of the VAE that made the latents (for a new model)")
    video.add_argument("--start", type=Path, help="the mini.safetensors of a finished run, to go on from")
    video.add_argument(
        "--renew",
        action="store_true",
        help="of --start only the weights: today's configuration, and the autoencoder of --vae if it is named",
    )
    video.add_argument("--branches", choices=BRANCHES, default=BRANCHES[0], help="default: 2D + 3D")
    video.add_argument("--no-multi-view", action="store_true", help="always take the clip's first frame as reference")
    video.add_argument(
        "--elsewhere",
        type=float,
        default=0.5,
        help="share of the references that show the person in other light and clothes (default: 0.5; the paper: 0)",
    )
    video.add_argument(
        "--reference-dropout",
        type=float,
        default=0.1,
        help="share of the samples that must do without the reference picture (default: 0.1)",
    )
    video.add_argument(
        "--nobody-dropout",
        type=float,
        default=0.0,
        help="share of the samples, besides, that must do without the identity's tokens as well (default: 0)",
    )
    video.add_argument("--identity-only", action="store_true", help="leave the text-to-video half as it is")
    video.add_argument("--pictures", type=float, default=0.3, help="share of steps on single frames (default: 0.3)")
    video.add_argument(
        "--noisier", type=float, default=1.0, help="above 1: noisy timesteps are drawn more often (default: 1, evenly)"
    )
    video.add_argument(
        "--by-picture",
        type=float,
        default=0.0,
        help="above 0, to 1: latent channels count by how much of the picture they make, to this power (default: 0)",
    )
    video.add_argument(
        "--surface",
        type=float,
        default=0.0,
        help="above 0: the tokens halfway through the layers must also tell what they show of the head (default: 0)",
    )
    video.add_argument(
        "--perceptual",
        type=float,
        default=0.0,
        help="above 0: what a prediction implies must also look right to the network of --reader (default: 0)",
    )
    video.add_argument("--reader", type=Path, help="the reader.safetensors of a finished `train reader`")
    video.add_argument("--noises", type=int, default=2, help="noise levels per clip and step (default: 2)")
    _add_run(video, batch=32, learning_rate=1e-3)
    video.set_defaults(run=_train_video)


def _add_close_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--close-up",
        action="store_true",
        help="move and zoom every clip until its first face lies as in the references (the mini that ships wants it)",
    )


def _add_run(parser: argparse.ArgumentParser, batch: int, learning_rate: float) -> None:
    """What every training stage has."""
    parser.add_argument("--out", type=Path, required=True, help="the run's folder; the same command resumes")
    parser.add_argument("--steps", type=int, required=True, help="optimiser steps in all")
    parser.add_argument("--batch", type=int, default=batch, help=f"samples per process and step (default: {batch})")
    parser.add_argument("--learning-rate", type=float, default=learning_rate, help=f"default: {learning_rate:g}")
    parser.add_argument("--warmup", type=int, default=50, help="steps until the learning rate is full (default: 50)")
    parser.add_argument("--schedule", default="constant_with_warmup", help="a name of diffusers' get_scheduler")
    parser.add_argument("--optimiser", choices=("adamw", "muon"), default="adamw", help="default: adamw, the paper's")
    parser.add_argument("--ema", type=float, default=0.999, help="decay of the weights' running mean (default: .999)")
    parser.add_argument("--precision", choices=("auto", "no", "bf16", "fp16"), default="auto", help="default: auto")
    parser.add_argument("--compile", action="store_true", help="compile the blocks (worth it on a graphics card)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and draws (default: 0)")
    parser.add_argument("--save-minutes", type=float, default=10.0, help="between checkpoints (default: 10)")
    parser.add_argument("--sample-minutes", type=float, default=10.0, help="between sample sheets (default: 10)")


def _train_data(options: argparse.Namespace) -> int:
    from .clips import ClipOptions
    from .shards import make_dataset

    crop = options.size if options.crop is None else options.crop
    wanted = ClipOptions(options.seed, options.size, options.frames, options.references, crop, options.people)
    shards = make_dataset(options.out, wanted, options.clips, options.processes, progress_bar("shards"))
    say(f"{options.out}: {options.clips} clips in {len(shards)} files.")
    return 0


def _train_vae(options: argparse.Namespace) -> int:
    from .train_vae import VaeStage

    stage = VaeStage(
        options.data,
        options.batch,
        options.frames,
        options.pictures,
        options.seed,
        options.start,
        options.decoder_only,
    )
    reached = run(stage, _run_options(options), log_line)
    say(f"{options.out}: {reached} steps; the VAE is in {options.out / 'vae'}.")
    return 0


def _train_latents(options: argparse.Namespace) -> int:
    import torch

    from .latents import encode_dataset
    from .train_vae import load_vae_folder

    vae = load_vae_folder(options.vae).requires_grad_(False).eval()
    vae.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[call-arg,arg-type]
    made = encode_dataset(
        options.data, vae, options.out, options.own, options.elsewhere, progress_bar("shards"), options.close_up
    )
    say(f"{options.out}: {len(made)} files.")
    return 0


def _train_embedder(options: argparse.Namespace) -> int:
    from .train_embedder import FILE, EmbedderStage
    from .train_vae import load_vae_folder

    vae = load_vae_folder(options.vae).requires_grad_(False).eval() if options.vae else None
    stage = EmbedderStage(options.data, options.batch, options.seed, vae)
    reached = run(stage, _run_options(options), log_line)
    say(f"{options.out}: {reached} steps; the network is {options.out / FILE}.")
    return 0


def _train_reader(options: argparse.Namespace) -> int:
    from .latents import load_encoded
    from .train_reader import FILE, ReaderStage

    stage = ReaderStage(load_encoded(options.data), options.batch, options.seed)
    reached = run(stage, _run_options(options), log_line)
    say(f"{options.out}: {reached} steps; the network is {options.out / FILE}.")
    return 0


def _train_clips(options: argparse.Namespace) -> int:
    from .footage import encode_footage
    from .train_vae import load_vae_folder

    vae = load_vae_folder(options.vae).requires_grad_(False).eval()
    made, left_out = encode_footage(
        options.videos,
        vae,
        options.out,
        options.frames,
        options.size,
        options.own,
        progress_bar("videos"),
        options.close_up,
    )
    say(f"{options.out}: {len(made)} files.", *(f"Left out: {reason}" for reason in left_out))
    return 0


def _train_video(options: argparse.Namespace) -> int:
    from .latents import load_encoded
    from .train_video import VideoStage, starting_model
    from .video_objective import VideoOptions

    wanted = VideoOptions(
        stage=options.stage,
        branches=options.branches,
        multi_view=not options.no_multi_view,
        elsewhere=options.elsewhere,
        reference_dropout=options.reference_dropout,
        nobody_dropout=options.nobody_dropout,
        noises=options.noises,
        pictures=options.pictures,
        noisier=options.noisier,
        by_picture=options.by_picture,
        surface=options.surface,
        perceptual=options.perceptual,
        reader=options.reader,
        train_backbone=not options.identity_only,
    )
    model = starting_model(options.start, options.vae, options.seed, options.renew)
    stage = VideoStage(model, load_encoded(options.data), wanted, options.batch, options.seed)
    reached = run(stage, _run_options(options), log_line)
    say(f"{options.out}: {reached} steps; the model is {options.out / 'mini.safetensors'}.")
    return 0


def _run_options(options: argparse.Namespace) -> RunOptions:
    return RunOptions(
        out=options.out,
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.learning_rate,
        warmup=options.warmup,
        schedule=options.schedule,
        optimiser=options.optimiser,
        ema=options.ema,
        precision=options.precision,
        compile=options.compile,
        seed=options.seed,
        save_minutes=options.save_minutes,
        sample_minutes=options.sample_minutes,
    )
