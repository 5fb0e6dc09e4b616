"""Prompts in ComfyUI's API format, as the tests queue them."""

from __future__ import annotations

STEPS, FRAMES = 3, 17


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def detection(image="fantasyid_astronaut.png", **settings):
    """A photograph, its detected face, and previews of both outputs."""
    defaults = {
        "choose": "largest",
        "index": 0,
        "min_size": 20,
        "padding": 0.0,
        "on_no_face": "stop with a message",
        "input_path": "recommended",
    }
    return {
        "photo": node("LoadImage", image=image),
        "faces": node("FantasyIDDetectFaces", image=["photo", 0], **(defaults | settings)),
        "crop": node("PreviewImage", images=["faces", 1]),
        "drawn": node("PreviewImage", images=["faces", 3]),
    }


def text_to_video(**settings):
    """Prompt → frames → mp4, without an identity."""
    defaults = {
        "seed": 1,
        "steps": STEPS,
        "guidance_scale": 4.0,
        "identity_strength": 1.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
        "frames": FRAMES,
        "width": 0,
        "height": 0,
    }
    sampled = {"model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0]}
    return {
        "model": node("FantasyIDLoadModel", name="mini", precision="auto"),
        "positive": node("FantasyIDTextEncode", model=["model", 0], text="a person smiles"),
        "negative": node("FantasyIDTextEncode", model=["model", 0], text=""),
        "sampler": node("FantasyIDSampler", **sampled, **(defaults | settings)),
        "frames": node("FantasyIDDecode", model=["model", 0], latent=["sampler", 0], tiled="auto"),
        "video": node("CreateVideo", images=["frames", 0], fps=["frames", 1]),
        "save": node("SaveVideo", video=["video", 0], filename_prefix="test/video", format="auto", codec="auto"),
    }


def geometry(**settings):
    """Face → mesh → file."""
    defaults = {"extractor": "parametric head", "input_path": "recommended"}
    return {
        "geometry": node("FantasyIDExtractGeometry", face=["faces", 0], **(defaults | settings)),
        "mesh": node("FantasyIDSaveMesh", geometry=["geometry", 0], filename_prefix="test/head", format="glb"),
        "overlay": node("PreviewImage", images=["geometry", 1]),
    }


def five_stages(**settings):
    """The whole way."""
    views = {"face": ["faces", 0], "geometry": ["geometry", 0], "yaw_angles": "-30, 30", "pitch_angles": ""}
    weights = {"rendered_weight": 0.5, "mirrored_weight": 0.25, "photograph_weight": 1.0, "light_seed": 0}
    fused = {"model": ["model", 0], "views": ["views", 0], "geometry": ["geometry", 0]}
    return {
        **detection(),
        **geometry(),
        "views": node("FantasyIDAugmentViews", **views, mirror=True, photometric=0.2, **weights),
        "identity": node(
            "FantasyIDFuseFeatures", **fused, combine="mean", branches="2D + 3D", input_path="recommended"
        ),
        "kept": node("FantasyIDSaveIdentity", identity=["identity", 0], filename_prefix="test/identity"),
        **text_to_video(identity=["identity", 0], **settings),
    }
