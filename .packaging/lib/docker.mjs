// An image with nothing but the static program and the certificates of public authorities.

import { isStatic } from "./elf.mjs";
import { TARGETS } from "./targets.mjs";

/** Sign-ins are kept in a volume. A host starts the container with `docker run -i --rm`. */
export const DOCKERFILE = `# docker buildx build --platform linux/amd64,linux/arm64 .
FROM debian:stable-slim AS base
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && mkdir /data

FROM scratch
ARG TARGETARCH
COPY --from=base /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=base --chown=65532:65532 /data /data
COPY --chmod=755 \${TARGETARCH}/mcp-remote /mcp-remote
ENV HOME=/data MCP_REMOTE_CONFIG_DIR=/data
USER 65532:65532
VOLUME /data
ENTRYPOINT ["/mcp-remote"]
`;

/** The programs that the image can have: those of Linux that need no other file. */
export const forImage = (programs) =>
  programs
    .filter(({ target, bytes }) => TARGETS[target].docker && isStatic(bytes))
    .map(({ target, bytes }) => ({ file: `${TARGETS[target].docker}/mcp-remote`, bytes }));
