# SPDX-License-Identifier: MIT
"""libbnb in other people's libraries. Each module needs the library it is named after."""
