# syntax=docker/dockerfile:1
# Both images of Nave, one target each, from the root of the repository:
#   docker build --target nave-operator -t nave-operator:0.1.0 .
#   docker build --target nave-agent    -t nave-agent:0.1.0 .
# An image holds one static binary, the CA certificates that public S3 endpoints need, and three lines that say who runs it.
# tests/src/node/image.rs builds the same layout without a container engine; the node tests run that.

# Override with rust:...@sha256:... to pin the compiler's image by content.
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-bookworm
FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# The same sources give the same bytes wherever they are built: locked versions, no paths, one time stamp.
ARG SOURCE_DATE_EPOCH=0
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} CARGO_INCREMENTAL=0 RUSTUP_TOOLCHAIN=1.95.0 \
    RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/src=. --remap-path-prefix=/usr/local/cargo=cargo"
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --bin nave-operator --bin nave-agent \
 && mkdir /out && cp target/*/release/nave-operator target/*/release/nave-agent /out/
RUN mkdir -p /rootfs/etc/ssl/certs \
 && cp /etc/ssl/certs/ca-certificates.crt /rootfs/etc/ssl/certs/ \
 && echo 'nave:x:65532:65532:nave:/nonexistent:/sbin/nologin' > /rootfs/etc/passwd \
 && echo 'nave:x:65532:' > /rootfs/etc/group \
 && echo 'hosts: files dns' > /rootfs/etc/nsswitch.conf

FROM scratch AS nave-operator
COPY --from=build /rootfs/ /
COPY --from=build /out/nave-operator /nave-operator
LABEL org.opencontainers.image.title="nave-operator" \
      org.opencontainers.image.description="Nave's hub" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532
EXPOSE 7443 8080
ENTRYPOINT ["/nave-operator"]
CMD ["run"]

FROM scratch AS nave-agent
COPY --from=build /rootfs/ /
COPY --from=build /out/nave-agent /nave-agent
LABEL org.opencontainers.image.title="nave-agent" \
      org.opencontainers.image.description="Nave's spoke" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532
EXPOSE 9090
ENTRYPOINT ["/nave-agent"]
CMD ["run"]
