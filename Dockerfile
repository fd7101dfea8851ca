# The image of one binary, built from source: flashsale-app, flashsale-operator or flashsale-load.
#   docker build --build-arg BINARY=flashsale-app -t flashsale-app:TAG .
FROM rust:1.95.0-slim-bookworm AS build
# Not the components of rust-toolchain.toml, which only the tests need.
ENV RUSTUP_TOOLCHAIN=1.95.0
ARG BINARY=flashsale-app
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --release --package ${BINARY} \
    && install -D target/release/${BINARY} /image/usr/local/bin/${BINARY} \
    && ln -s ${BINARY} /image/usr/local/bin/entrypoint

FROM debian:bookworm-slim
COPY --from=build /image/ /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/entrypoint"]
