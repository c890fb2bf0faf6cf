"""A Django project in one file, with live typed settings; nothing in it is about tracing.

    stardust-auto --local python examples/django/notes.py runserver --noreload 8000

Then open http://127.0.0.1:8000/notes/, and in a second terminal:

    stardustctl config set --app notes page_size=2 --publish

``DEBUG`` and the like belong to the start of the process and stay in Django's settings; what may change while it runs
is read from ``config.current`` where it is used.
"""

import os
import sys
import tempfile
from pathlib import Path

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.urls import path
from pydantic import Field

from stardust_auto import StardustConfigDict, StardustSettings, live


class Settings(StardustSettings):
    model_config = StardustConfigDict(env_prefix="NOTES_")

    page_size: int = Field(default=5, ge=1, le=100)


config = live(Settings)

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(Path(tempfile.gettempdir(), f"stardust-notes-{os.getuid()}.db")),
        }
    },
    DEBUG=False,
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for this example",
)


def notes(request: HttpRequest) -> JsonResponse:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)")
        cursor.execute("INSERT INTO notes (text) VALUES (%s)", [f"seen by {request.META['REMOTE_ADDR']}"])
        cursor.execute("SELECT id, text FROM notes ORDER BY id DESC LIMIT %s", [config.current.page_size])
        rows = cursor.fetchall()
    return JsonResponse({"notes": [{"id": number, "text": text} for number, text in rows]})


urlpatterns = [path("notes/", notes)]
django.setup()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
