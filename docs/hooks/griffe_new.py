# SPDX-License-Identifier: MIT
"""Classes that are made by `__new__`, like torch's parameters, have its signature: griffe looks at `__init__` only."""

from __future__ import annotations

from typing import Any

import griffe


class NewIsInit(griffe.Extension):
    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        new = cls.members.get("__new__")
        if isinstance(new, griffe.Function) and "__init__" not in cls.members:
            init = griffe.Function("__init__", parameters=new.parameters, returns=None, lineno=new.lineno)
            cls.set_member("__init__", init)
