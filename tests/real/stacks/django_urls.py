from django.contrib.auth.views import LoginView
from django.urls import include, path
from mcp_server import mcp_server

urlpatterns = [
    path("", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("", include("mcp_server.urls")),
    path("login/", LoginView.as_view()),
]


@mcp_server.tool()
async def who() -> str:
    return "you"
