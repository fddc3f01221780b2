"""Files that appear whole or not at all, and the small readers and writers that every package shares."""

from moored.files.atomic import whole_file, whole_folder
from moored.files.place import refuse_non_empty, require_place
from moored.files.reading import iterate_jsonl, read_jsonl, read_text, sha256_of
from moored.files.writing import append_json, write_json, write_jsonl

__all__ = [
    "append_json",
    "iterate_jsonl",
    "read_jsonl",
    "read_text",
    "refuse_non_empty",
    "require_place",
    "sha256_of",
    "whole_file",
    "whole_folder",
    "write_json",
    "write_jsonl",
]
