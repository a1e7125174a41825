"""The reference at /docs: Swagger UI, served by ourselves, so that it works without any other host.

Addresses are relative, so that the page also works behind a proxy that puts a prefix before it. The policy keeps a
browser from loading or sending anything elsewhere, whatever the scripts would like to.
"""

from pathlib import Path

import fastapi_offline
from fastapi import APIRouter
from starlette.responses import FileResponse, HTMLResponse, Response

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_FILES = Path(fastapi_offline.__file__).parent / "static"
_POLICY = {
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    ),
    "Referrer-Policy": "no-referrer",
}
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Compute: reference</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
  <div id="reference">The reference needs JavaScript; openapi.json holds the same for programs.</div>
  <script src="docs/swagger-ui-bundle.js"></script>
  <script src="docs/start.js"></script>
</body>
</html>
"""
# Without `validatorUrl`, Swagger UI shows a badge of its makers' server.
_START = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "none",
  validatorUrl: null,
});
"""


@router.get("/docs")
async def reference() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_PAGE, headers=_POLICY)


@router.get("/docs/start.js")
async def start() -> Response:
    """The script that makes Swagger UI show our document."""
    return Response(_START, media_type="text/javascript", headers=_POLICY)


@router.get("/docs/swagger-ui-bundle.js")
async def script() -> FileResponse:
    """Swagger UI."""
    return FileResponse(_FILES / "swagger-ui-bundle.js", media_type="text/javascript", headers=_POLICY)


@router.get("/docs/swagger-ui.css")
async def style() -> FileResponse:
    """The style sheet of Swagger UI."""
    return FileResponse(_FILES / "swagger-ui.css", media_type="text/css", headers=_POLICY)
