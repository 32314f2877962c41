# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the documentation as a site; `scripts/site` builds it.

https://www.sphinx-doc.org/en/master/usage/configuration.html
"""

project = "compute_plane.vllm"
author = "compute_plane.vllm contributors"
copyright = "2026, compute_plane.vllm contributors"  # noqa: A001 - Sphinx's name
root_doc = "index"
extensions = ["myst_parser", "sphinx_antsibull_ext"]
myst_enable_extensions = ["linkify"]
myst_heading_anchors = 4
# The reference names pages of Ansible's own documentation, which nothing is fetched from.
suppress_warnings = ["myst.header", "ref.ref"]
html_theme = "furo"
html_title = "compute_plane.vllm"
html_static_path = ["style"]
html_css_files = ["site.css"]
html_show_sourcelink = False
# Nothing is fetched from elsewhere when a page is read.
html_theme_options = {"top_of_page_buttons": []}
