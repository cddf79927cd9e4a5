# Where to build and what to run in; both can be replaced by a mirror's. The Rust version is rust-version of Cargo.toml.
ARG BUILD_BASE=docker.io/library/rust:1.95-bookworm
# Certificates of the public authorities, and no program: ours is static. `scratch` does too, with upstream.ca_file.
ARG RUN_BASE=gcr.io/distroless/static-debian12:nonroot

# Writes the list of dependencies into the program, where scanners look for it.
FROM ${BUILD_BASE} AS auditable
RUN cargo install --locked --root /auditable cargo-auditable --version 0.7.7

# Dependencies alone: built again only when Cargo.toml or Cargo.lock changes.
FROM ${BUILD_BASE} AS dependencies
COPY --from=auditable /auditable/bin/cargo-auditable /usr/local/bin/
WORKDIR /build
COPY .cargo .cargo
COPY .ci/build .ci/build
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && .ci/build \
    && rm -r src

FROM dependencies AS build
ARG REVISION=unknown
ENV CONTACTS_GATEWAY_REVISION=${REVISION}
COPY config config
COPY src src
# The stand-ins above are newer than a checkout may be: without a touch, cargo would take them for the program.
RUN touch src/main.rs src/lib.rs \
    && .ci/build

# The program and nothing else: no shell, no package manager, no library, a user that owns nothing.
FROM ${RUN_BASE}
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="contacts-gateway" \
      org.opencontainers.image.description="A caching reverse proxy for Kore.ai's getAllContacts that holds the secrets and keeps to the allowance." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"
COPY --from=build --chown=0:0 --chmod=0555 /build/target/dist/contacts-gateway /contacts-gateway
# Loopback, the program's own default, would be out of reach from outside the container. As a sidecar, where containers share
# it, set LISTEN__ADDRESS back to 127.0.0.1:8080.
ENV CONTACTS_GATEWAY__LISTEN__ADDRESS=0.0.0.0:8080 \
    CONTACTS_GATEWAY__ADMIN__ADDRESS=0.0.0.0:9090
USER 65532:65532
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/contacts-gateway", "health"]
ENTRYPOINT ["/contacts-gateway"]
