# The plugin as an image: one static binary at the root and nothing else, so that Vault can run it in a container (runc or gVisor)
# and OpenBao can take it out and run it as a process.
#
#   docker build -t vault-plugin-secrets-openai:0.1.0 .   compiles inside Docker: all it needs is Docker
#   make image                                            packs the binary that cargo built on this machine

ARG RUST_IMAGE=rust:1.95-bookworm

# What both ways share. RUN_AS: Vault gives the container a socket directory that belongs to Vault's own user and group. The
# container's root, without any capability, can use it whoever Vault is: as the owner where Vault is root, through the group that
# Vault adds where it is not. Another user (--build-arg RUN_AS=65534:65534) can only under a Vault whose group is not root's.
FROM scratch AS bare
ARG VERSION=dev
ARG REVISION=unknown
ARG RUN_AS=0:0
LABEL org.opencontainers.image.title="vault-plugin-secrets-openai" \
      org.opencontainers.image.description="OpenAI secrets engine for HashiCorp Vault and OpenBao" \
      org.opencontainers.image.licenses="MPL-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER ${RUN_AS}
ENTRYPOINT ["/vault-plugin-secrets-openai"]

# scripts/image.sh takes what is above this line, and a program that is already built.
FROM ${RUST_IMAGE} AS build
ARG REVISION=unknown
WORKDIR /src
COPY . .
RUN BUILD_COMMIT="${REVISION}" cargo build --release --locked --bin vault-plugin-secrets-openai \
 && install -D "target/$(rustc -vV | sed -n 's/^host: //p')/release/vault-plugin-secrets-openai" /out/vault-plugin-secrets-openai \
 && ! grep -aq /ld-linux /out/vault-plugin-secrets-openai

FROM bare
COPY --from=build /out/vault-plugin-secrets-openai /
