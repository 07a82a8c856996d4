"""Two of gradio's components with manners of ours, and files that gradio may serve."""

from __future__ import annotations

from abc import ABCMeta
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.components.annotated_image import AnnotatedImageData, Annotation
from gradio.data_classes import FileData, ImageData
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from apps.demo.showing import Picture


class _Quiet(ComponentMeta):
    """Makes a class as gradio does, but writes no stub file (`.pyi`) into this folder for it."""

    def __new__(mcs, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        return ABCMeta.__new__(mcs, name, bases, attrs)


class PhotoImage(gr.Image, metaclass=_Quiet):
    """An image whose upload reaches us as it came: what is wrong with a file is for us to say.

    Gradio would open it itself, with its own errors, and would fetch one that is named by an address.
    """

    is_template = True  # to the page it is an Image

    def preprocess(self, payload: ImageData | None) -> str | None:
        """The path of the uploaded file, or None."""
        if payload is None:
            return None
        if payload.path is None:
            raise gr.Error("send the photo as a file", print_exception=False)
        return payload.path

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """As in gradio, but for files of this machine alone."""
        if url_or_file_path is not None and "://" in str(url_or_file_path):
            raise gr.Error("send the photo as a file: addresses are not fetched", print_exception=False)
        return await super().async_move_resource_to_block_cache(url_or_file_path)


class MaskPicture(gr.AnnotatedImage, metaclass=_Quiet):
    """An annotated image that takes a :class:`apps.demo.showing.Picture`, whose masks are small PNGs already.

    Gradio's own would make each mask out of arrays of floats of the photo's size, in one colour for all.
    """

    is_template = True

    def postprocess(self, value: Picture | None) -> AnnotatedImageData | None:  # type: ignore[override]
        """Put the picture's parts where the page finds them."""
        if value is None:
            return None
        masks = [
            Annotation(image=FileData(path=served("mask.png", mask.png)), label=mask.label)
            for mask in value.masks
        ]
        return AnnotatedImageData(image=FileData(path=served("photo.jpg", value.base)), annotations=masks)


def served(name: str, data: bytes) -> str:
    """Path of a file in the folder that gradio serves from, and cleans up (``delete_cache``)."""
    return str(save_bytes_to_cache(data, name, cache_dir=get_upload_folder()))


def shown_picture(picture: Picture | None) -> Any:
    """The update of a :class:`MaskPicture`: its value, and the colours of its legend."""
    colours = {mask.label: mask.colour for mask in picture.masks} if picture else {}
    return gr.update(value=picture, color_map=colours)


def told(text: str) -> str:
    """``text`` for gradio's messages, which are HTML: phrases and file names are the visitor's own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
