"""A figure as SVG and as PNG from one walk over it.

Nearly all that matplotlib's drawing takes goes into placing ticks and texts, not into what it draws, and it would place
them four times: for the layout twice, and for each form. Here a figure is laid out once, and what it then draws goes to
both forms at once. Needs matplotlib.
"""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import Affine2D, TransformedBbox, TransformedPath
from PIL import Image

from facex_tune.evaluation.plots import PNG_DPI

SVG_DPI = 72
SCALE = PNG_DPI / SVG_DPI
MARGIN_IN = 0.04167  # around everything, as matplotlib's constrained layout leaves


def both(figure: Figure) -> tuple[bytes, bytes]:
    """The figure as SVG and as PNG. It is laid out first, and drawn with after that."""
    width_in, height_in = figure.get_size_inches()
    svg, png = io.StringIO(), io.BytesIO()
    vectors: Any = RendererSVG(  # type: ignore[no-untyped-call]
        width_in * SVG_DPI,
        height_in * SVG_DPI,
        svg,
        image_dpi=PNG_DPI,
        metadata={"Date": None, "Creator": None},
    )
    made: Any = RendererAgg  # which matplotlib gives no types
    pixels = made(width_in * PNG_DPI, height_in * PNG_DPI, PNG_DPI)
    renderer = _Both(vectors, pixels)
    _lay_out(figure, renderer)
    figure.draw(renderer)
    vectors.finalize()
    pixels_HW4 = np.asarray(pixels.buffer_rgba())  # on white, so that nothing shows through
    plain = Image.fromarray(pixels_HW4[..., :3].copy())
    # Of plain areas: half the time of zlib's level 4, and a tenth more bytes.
    plain.save(png, "PNG", compress_level=1, compress_type=zlib.Z_RLE, dpi=(PNG_DPI, PNG_DPI))
    return svg.getvalue().encode(), png.getvalue()


def _lay_out(figure: Figure, renderer: _Both) -> None:
    """Gives the axes all the room that their texts leave, as the renderer measures them, which remembers that for the
    drawing; several axes are left to matplotlib's constrained layout.
    """
    engine = figure.get_layout_engine()
    FigureCanvasAgg(figure)
    if isinstance(engine, ConstrainedLayoutEngine) and len(figure.axes) > 1:
        engine.execute(figure)
    figure.set_layout_engine("none")
    figure.dpi = SVG_DPI
    if isinstance(engine, ConstrainedLayoutEngine) and len(figure.axes) == 1:
        _widen(figure, figure.axes[0], renderer)


def _widen(figure: Figure, axes: Axes, renderer: _Both) -> None:
    """So that what the axes have around them ends at the figure's margin; measured once, where they stand now."""
    axes.apply_aspect(axes.get_position(original=True))
    whole = axes.get_tightbbox(renderer, for_layout_only=True)
    inner = axes.get_window_extent(renderer)
    if whole is None:
        return
    width, height = figure.bbox.size
    pad = MARGIN_IN * figure.dpi
    left, below = inner.x0 - whole.x0 + pad, inner.y0 - whole.y0 + pad
    right, above = whole.x1 - inner.x1 + pad, whole.y1 - inner.y1 + pad
    if left + right < width and below + above < height:
        room = (left / width, below / height, 1 - (left + right) / width, 1 - (below + above) / height)
        axes.set_position(room)


class _Both(RendererBase):
    """Hands on what is drawn, in the units of `vectors`, and to `pixels` in theirs."""

    def __init__(self, vectors: Any, pixels: Any) -> None:
        super().__init__()
        self._vectors, self._pixels = vectors, pixels
        self._scaled = Affine2D().scale(SCALE)

    def _larger(self, gc: GraphicsContextBase) -> GraphicsContextBase:
        """The same pen and colours, clipped in pixels. Widths of lines are points for both."""
        found = GraphicsContextBase()
        found.copy_properties(gc)
        if (rectangle := gc.get_clip_rectangle()) is not None:
            found.set_clip_rectangle(TransformedBbox(rectangle, self._scaled))  # type: ignore[arg-type]
        clip: Any = gc.get_clip_path()
        path, transform = clip
        if path is not None:
            found.set_clip_path(TransformedPath(path, transform + self._scaled))
        return found

    def draw_path(self, gc: Any, path: Any, transform: Any, rgbFace: Any = None) -> None:
        self._vectors.draw_path(gc, path, transform, rgbFace)
        self._pixels.draw_path(self._larger(gc), path, transform + self._scaled, rgbFace)

    def draw_markers(
        self, gc: Any, marker_path: Any, marker_trans: Any, path: Any, trans: Any, rgbFace: Any = None
    ) -> None:
        self._vectors.draw_markers(gc, marker_path, marker_trans, path, trans, rgbFace)
        scaled = marker_trans + self._scaled, path, trans + self._scaled
        self._pixels.draw_markers(self._larger(gc), marker_path, *scaled, rgbFace)

    def draw_path_collection(
        self,
        gc: Any,
        master_transform: Any,
        paths: Any,
        all_transforms: Any,
        offsets: Any,
        offset_trans: Any,
        *more: Any,
        **options: Any,
    ) -> None:
        own = paths, all_transforms, offsets
        self._vectors.draw_path_collection(gc, master_transform, *own, offset_trans, *more, **options)
        scaled = master_transform + self._scaled, *own, offset_trans + self._scaled
        self._pixels.draw_path_collection(self._larger(gc), *scaled, *more, **options)

    def draw_quad_mesh(
        self,
        gc: Any,
        master_transform: Any,
        width: Any,
        height: Any,
        cells: Any,
        offsets: Any,
        offset_trans: Any,
        *more: Any,
    ) -> None:
        own = width, height, cells, offsets
        self._vectors.draw_quad_mesh(gc, master_transform, *own, offset_trans, *more)
        scaled = master_transform + self._scaled, *own, offset_trans + self._scaled
        self._pixels.draw_quad_mesh(self._larger(gc), *scaled, *more)

    def draw_image(self, gc: Any, x: float, y: float, im: Any, transform: Any = None) -> None:
        self._vectors.draw_image(gc, x, y, im)
        self._pixels.draw_image(self._larger(gc), x * SCALE, y * SCALE, im)

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, ismath: Any = False, mtext: Any = None
    ) -> None:
        self._vectors.draw_text(gc, x, y, s, prop, angle, ismath, mtext)
        self._pixels.draw_text(self._larger(gc), x * SCALE, y * SCALE, s, prop, angle, ismath, mtext)

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> tuple[float, float, float]:
        found: tuple[float, float, float] = self._vectors.get_text_width_height_descent(s, prop, ismath)
        return found

    def open_group(self, s: str, gid: str | None = None) -> None:
        self._vectors.open_group(s, gid)

    def close_group(self, s: str) -> None:
        self._vectors.close_group(s)

    def flipy(self) -> bool:
        return True

    def get_canvas_width_height(self) -> tuple[float, float]:
        found: tuple[float, float] = self._vectors.get_canvas_width_height()
        return found

    def get_image_magnification(self) -> float:
        return SCALE  # an image comes in the pixels of the PNG

    def option_image_nocomposite(self) -> bool:
        return True

    def points_to_pixels(self, points: Any) -> Any:
        return points
