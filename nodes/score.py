"""Behind the fifth room: judge a video, and keep the best of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..fantasyid_core.errors import InputError, NoFaceError
from ..fantasyid_core.evaluation.embedders import EMBEDDERS
from ..fantasyid_core.images import as_photograph
from .compat import schema
from .folders import insightface_folder
from .pictures import image_from_picture
from .progress import node_progress, show_text

if TYPE_CHECKING:
    import torch

KEEP = ("highest", "lowest")


class Score(io.ComfyNode):
    """FantasyIDScore."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDScore",
            display_name="Score Likeness and Motion",
            description="How like the person a video is and how lively: likeness (RS), steadiness (IFS) and face "
            "motion (FM) as the paper names them, how far the head turns, and a plot over time. Works on any video; "
            "one without a face scores 0.",
            search_aliases=["face similarity", "identity score", "evaluate", "compare faces", "likeness"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input("images", tooltip="The video's frames, from Decode Video or any loader."),
                io.Image.Input("photograph", tooltip="A photograph of the person; its largest face is the reference."),
                io.Float.Input(
                    "fps",
                    default=8.0,
                    min=0.1,
                    max=240.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Frames per second of the video; eight of them a second are looked at.",
                ),
                io.Combo.Input(
                    "embedder",
                    options=list(EMBEDDERS),
                    default="dlib",
                    tooltip="Who says how alike two faces are. 'dlib' ships with the pack (CC0). 'arcface', the "
                    "paper's choice, needs antelopev2 in models/insightface/models, for non-commercial research only.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    "likeness",
                    "likeness",
                    tooltip="RS: mean similarity to the photograph: 1 the same, 0 a stranger.",
                ),
                io.Float.Output("steadiness", "steadiness", tooltip="IFS: mean similarity of consecutive frames."),
                io.Float.Output(
                    "motion", "motion", tooltip="FM: how much the face itself moves, 0 is a still picture."
                ),
                io.Float.Output("yaw_range", "yaw_range", tooltip="Degrees between the leftmost and rightmost look."),
                io.Image.Output("plot", "plot", tooltip="Likeness and turn of the head over time, and all numbers."),
                io.String.Output("text", "text", tooltip="The numbers in words, and what they were measured with."),
            ],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, photograph: torch.Tensor, fps: float, embedder: str) -> io.NodeOutput:
        """Look at every eighth of a second."""
        from ..fantasyid_core.evaluation.embedders import make_embedder
        from ..fantasyid_core.evaluation.score import draw_no_score, draw_score, score_video
        from ..fantasyid_core.evaluation.watch import Eyes, see_person

        options: dict[str, Any] = {"models": insightface_folder()} if embedder == "arcface" else {}
        eyes = Eyes(make_embedder(embedder, **options))
        person = see_person("the person", as_photograph(photograph[:1]), eyes)
        frames = images[..., :3].float().cpu().numpy()
        try:
            score = score_video(frames, fps, person, eyes, embedder, node_progress(len(frames)))
        except NoFaceError as error:  # a bad video must not end a queue of good ones: it just scores nothing
            show_text(cls, str(error))
            return io.NodeOutput(0.0, 0.0, 0.0, 0.0, image_from_picture(draw_no_score(str(error))), str(error))
        show_text(cls, score.text())
        m = score.metrics
        plot = image_from_picture(draw_score(score))
        return io.NodeOutput(m.rs, m.ifs or 0.0, m.fm or 0.0, m.yaw_range, plot, score.text())


class Seeds(io.ComfyNode):
    """FantasyIDSeeds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDSeeds",
            display_name="Several Seeds",
            description="A list of seeds: whatever hangs on it runs once for each, in one go. With Score and Keep Best "
            "you get the best of several videos.",
            search_aliases=["seed list", "batch seeds", "multiple seeds", "variations"],
            inputs=[
                io.Int.Input(
                    "first_seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFF00,
                    control_after_generate=True,
                    tooltip="The first seed; the others follow it.",
                ),
                io.Int.Input("count", default=3, min=1, max=64, tooltip="How many seeds, so how many videos are made."),
            ],
            outputs=[
                io.Int.Output(
                    "seed", "seed", is_output_list=True, tooltip="For the sampler's seed; it then runs once for each."
                ),
            ],
        )

    @classmethod
    def execute(cls, first_seed: int, count: int) -> io.NodeOutput:
        """Count up."""
        return io.NodeOutput(list(range(first_seed, first_seed + count)))


class KeepBest(io.ComfyNode):
    """FantasyIDKeepBest."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDKeepBest",
            display_name="Keep Best",
            description="Of several videos the one with the best score. Connect what runs several times (Several "
            "Seeds) and a score of each: a number of Score Likeness and Motion, or any other.",
            search_aliases=["best of", "choose best", "select by score", "best seed"],
            is_input_list=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input("images", tooltip="The videos' frames, one batch for each run."),
                io.Float.Input(
                    "score",
                    force_input=True,
                    tooltip="A number for each video, for instance Score's likeness. As many as there are videos.",
                ),
                io.Combo.Input(
                    "keep",
                    options=list(KEEP),
                    default=KEEP[0],
                    tooltip="Whether the highest or the lowest score is best.",
                ),
                io.Int.Input(
                    "seeds",
                    optional=True,
                    force_input=True,
                    tooltip="The seeds that made them, from Several Seeds, so that the winner's is told.",
                ),
            ],
            outputs=[
                io.Image.Output("best_images", "best_images", tooltip="The frames of the best video."),
                io.Float.Output("best_score", "best_score", tooltip="The score of that video."),
                io.Int.Output("number", "number", tooltip="Which one it is, counted from 1."),
                io.Int.Output("seed", "seed", tooltip="Its seed, 0 when no seeds were connected."),
            ],
        )

    @classmethod
    def execute(
        cls, images: list[torch.Tensor], score: list[float], keep: list[str], seeds: list[int] | None = None
    ) -> io.NodeOutput:
        """Compare them."""
        if len(images) != len(score):
            raise InputError(
                f"There are {len(images)} videos but {len(score)} scores; connect both from what runs once per seed."
            )
        if seeds and len(seeds) != len(images):
            raise InputError(f"There are {len(images)} videos but {len(seeds)} seeds; connect those that made them.")
        sign = 1.0 if keep[0] == KEEP[0] else -1.0
        best = max(range(len(score)), key=lambda index: sign * score[index])
        seed = seeds[best] if seeds else 0
        lines = [f"{'> ' if i == best else '  '}{i + 1}: {value:.3f}" for i, value in enumerate(score)]
        show_text(cls, "\n".join(lines))
        return io.NodeOutput(images[best], score[best], best + 1, seed)


NODES: list[type[io.ComfyNode]] = [Score, Seeds, KeepBest]
