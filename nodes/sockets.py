"""The socket types between the nodes of this pack. Everything else they use is ComfyUI's own."""

from __future__ import annotations

from comfy_api.latest import io

Detector = io.Custom("FANTASYID_DETECTOR")
Face = io.Custom("FANTASYID_FACE")
Geometry = io.Custom("FANTASYID_GEOMETRY")
Views = io.Custom("FANTASYID_VIEWS")
Identity = io.Custom("FANTASYID_IDENTITY")
Model = io.Custom("FANTASYID_MODEL")
People = io.Custom("FANTASYID_PEOPLE")
Speed = io.Custom("FANTASYID_SPEED")
Strength = io.Custom("FANTASYID_STRENGTH")

#: Other packs hand out the same face-analysis object under three names; all of them fit.
AnyDetector = io.Custom("FANTASYID_DETECTOR,INSIGHTFACE,FACEANALYSIS,FACE_ANALYSIS")
#: A list of numbers, or the curve of 2026 cores. Two types make it a socket everywhere: CURVE alone is a widget there.
StrengthCurve = io.Custom("FLOAT,CURVE")
