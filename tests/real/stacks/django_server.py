"""django-mcp-server with django-oauth-toolkit: dynamic registration, metadata, and Django's sign-in page."""

import os
from tempfile import TemporaryDirectory

import django
from django.conf import settings
from django.core.management import call_command

SIGN_IN = '<form method="post">{% csrf_token %}{{ form }}<button>Sign in</button></form>'

with TemporaryDirectory() as folder:
    settings.configure(
        DEBUG=True,
        SECRET_KEY="of no worth, but as long as the framework wants it: 50 characters",
        ROOT_URLCONF="django_urls",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "rest_framework",
            "oauth2_provider",
            "mcp_server",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {
                    "context_processors": ["django.template.context_processors.request"],
                    "loaders": [
                        ("django.template.loaders.locmem.Loader", {"registration/login.html": SIGN_IN}),
                        "django.template.loaders.app_directories.Loader",
                    ],
                },
            }
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/db"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        LOGIN_URL="/login/",
        DJANGO_MCP_AUTHENTICATION_CLASSES=["oauth2_provider.contrib.rest_framework.OAuth2ProtectedResourceAuthentication"],
        DJANGO_MCP_GET_SERVER_INSTRUCTIONS_TOOL=False,
        OAUTH2_PROVIDER={
            "SCOPES": {"mcp": "use the tools"},
            "DCR_ENABLED": True,
            "DCR_REGISTRATION_PERMISSION_CLASSES": ("oauth2_provider.dcr.AllowAllDCRPermission",),
        },
    )
    django.setup()
    call_command("migrate", verbosity=0)

    from django.contrib.auth.models import User

    User.objects.create_user("ada", password="ada")
    call_command("runserver", f"127.0.0.1:{os.environ['PORT']}", use_reloader=False)
