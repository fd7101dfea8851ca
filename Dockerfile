# One recipe for the three binaries. The build context holds just the binary:
#   docker build -f Dockerfile --build-arg BINARY=flashsale-app -t localhost/flashsale-app:dev target/image/flashsale-app
FROM debian:bookworm-slim
ARG BINARY
COPY ${BINARY} /usr/local/bin/
RUN ln -s ${BINARY} /usr/local/bin/entrypoint
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/entrypoint"]
