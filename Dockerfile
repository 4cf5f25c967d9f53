# Boyle's images where Docker is at hand. `cargo xtask image` makes the same ones without it, and a test compares.
#
#   docker build --target serving  --tag boyle.local/boyle:0.1.0 .
#   docker build --target operator --tag boyle.local/boyle-operator:0.1.0 .

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --workspace --bins
RUN mkdir /stripped && for program in boyle boyle-operator; do \
      strip --strip-all --remove-section=.note.gnu.build-id -o /stripped/$program target/release/$program; done

# The C library, the unwinder's library and certificates; no shell.
FROM gcr.io/distroless/cc-debian12 AS base

FROM base AS serving
COPY --from=build /stripped/boyle /usr/bin/boyle
USER 65532:65532
ENTRYPOINT ["/usr/bin/boyle"]

FROM base AS operator
COPY --from=build /stripped/boyle-operator /usr/bin/boyle-operator
USER 65532:65532
ENTRYPOINT ["/usr/bin/boyle-operator"]
