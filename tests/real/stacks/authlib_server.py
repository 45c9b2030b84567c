"""Authlib's authorization server in Flask, with registration, PKCE and introspection, and FastMCP as its resource server."""

import os
import threading
import time

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants, list_to_scope, scope_to_list
from authlib.oauth2.rfc7591 import ClientRegistrationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from fastmcp import FastMCP
from fastmcp.server.auth import RemoteAuthProvider
from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier
from flask import Flask, jsonify, request
from werkzeug.serving import make_server

port, auth_port = int(os.environ["PORT"]), int(os.environ["AUTH_PORT"])
issuer = f"http://127.0.0.1:{auth_port}"
clients, codes, tokens = {}, {}, {}
METADATA = {
    "issuer": issuer,
    "authorization_endpoint": f"{issuer}/authorize",
    "token_endpoint": f"{issuer}/token",
    "registration_endpoint": f"{issuer}/register",
    "scopes_supported": ["mcp"],
    "response_types_supported": ["code"],
    "grant_types_supported": ["authorization_code", "refresh_token"],
    "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
    "code_challenge_methods_supported": ["S256"],
}


class Client(ClientMixin):
    def __init__(self, info, metadata):
        self.info, self.metadata = info, metadata

    def get_client_id(self):
        return self.info["client_id"]

    def get_default_redirect_uri(self):
        return self.metadata["redirect_uris"][0]

    def get_allowed_scope(self, scope):
        return list_to_scope([one for one in scope_to_list(scope or "") if one == "mcp"])

    def check_redirect_uri(self, redirect_uri):
        return redirect_uri in self.metadata["redirect_uris"]

    def check_client_secret(self, client_secret):
        return self.info.get("client_secret") == client_secret

    def check_endpoint_auth_method(self, method, endpoint):
        return endpoint != "token" or method == self.metadata.get("token_endpoint_auth_method", "client_secret_basic")

    def check_response_type(self, response_type):
        return response_type == "code"

    def check_grant_type(self, grant_type):
        return grant_type in METADATA["grant_types_supported"]


class Code:
    def __init__(self, code, request):
        self.code, self.client_id = code, request.client.get_client_id()
        self.redirect_uri, self.scope = request.payload.redirect_uri, request.payload.scope
        self.code_challenge = request.payload.data["code_challenge"]
        self.code_challenge_method = request.payload.data["code_challenge_method"]
        self.user = request.user

    def get_redirect_uri(self):
        return self.redirect_uri

    def get_scope(self):
        return self.scope


class Token(TokenMixin):
    def __init__(self, values, client_id, user):
        self.values, self.client_id, self.user, self.issued = values, client_id, user, int(time.time())

    def check_client(self, client):
        return client.get_client_id() == self.client_id

    def get_scope(self):
        return self.values.get("scope", "")

    def get_expires_in(self):
        return self.values["expires_in"]

    def get_user(self):
        return self.user

    def get_client(self):
        return clients[self.client_id]

    def is_expired(self):
        return time.time() > self.issued + self.get_expires_in()

    def is_revoked(self):
        return False


class CodeGrant(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METADATA["token_endpoint_auth_methods_supported"]

    def save_authorization_code(self, code, request):
        codes[code] = Code(code, request)

    def query_authorization_code(self, code, client):
        found = codes.get(code)
        return found if found and found.client_id == client.get_client_id() else None

    def delete_authorization_code(self, authorization_code):
        del codes[authorization_code.code]

    def authenticate_user(self, authorization_code):
        return authorization_code.user


class Registration(ClientRegistrationEndpoint):
    def authenticate_token(self, request):
        return "open"

    def generate_client_info(self, request):
        info = super().generate_client_info(request)
        if request.payload.data.get("token_endpoint_auth_method") == "none":
            # Authlib gives a secret to public clients too, and then rejects it.
            del info["client_secret"], info["client_secret_expires_at"]
        return info

    def get_server_metadata(self):
        return METADATA

    def save_client(self, client_info, client_metadata, request):
        clients[client_info["client_id"]] = client = Client(client_info, client_metadata)
        return client


class Introspection(IntrospectionEndpoint):
    CLIENT_AUTH_METHODS = ["client_secret_basic"]

    def query_token(self, token_string, token_type_hint):
        return tokens.get(token_string)

    def check_permission(self, token, client, request):
        return client.get_client_id() == "mcp-server"

    def introspect_token(self, token):
        return {"active": True, "client_id": token.client_id, "scope": token.get_scope(), "sub": token.user, "exp": token.issued + token.get_expires_in()}


def save_token(values, request):
    tokens[values["access_token"]] = Token(values, request.client.get_client_id(), request.user)


clients["mcp-server"] = Client({"client_id": "mcp-server", "client_secret": "of no worth"}, {"redirect_uris": []})
app = Flask(__name__)
authorization = AuthorizationServer(app, query_client=clients.get, save_token=save_token)
authorization.register_grant(CodeGrant, [CodeChallenge(required=True)])
authorization.register_endpoint(Registration)
authorization.register_endpoint(Introspection)


@app.get("/.well-known/oauth-authorization-server")
def metadata():
    return jsonify(METADATA)


@app.route("/authorize", methods=["GET", "POST"])
def authorize():
    grant = authorization.get_consent_grant(end_user="ada")
    if request.method == "GET":
        return '<form method="post"><button name="decision" value="allow">Allow</button></form>'
    agreed = request.form.get("decision") == "allow"
    return authorization.create_authorization_response(grant=grant, grant_user="ada" if agreed else None)


@app.post("/token")
def token():
    return authorization.create_token_response()


@app.post("/register")
def register():
    return authorization.create_endpoint_response(Registration.ENDPOINT_NAME)


@app.post("/introspect")
def introspect():
    return authorization.create_endpoint_response(Introspection.ENDPOINT_NAME)


threading.Thread(target=make_server("127.0.0.1", auth_port, app, threaded=True).serve_forever, daemon=True).start()

verifier = IntrospectionTokenVerifier(
    introspection_url=f"{issuer}/introspect", client_id="mcp-server", client_secret="of no worth", required_scopes=["mcp"]
)
server = FastMCP("authlib", auth=RemoteAuthProvider(token_verifier=verifier, authorization_servers=[issuer], base_url=f"http://127.0.0.1:{port}"))


@server.tool
def who() -> str:
    return "you"


server.run(transport="http", host="127.0.0.1", port=port, show_banner=False)
