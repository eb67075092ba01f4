# One image for each service, and one for the operators' program (SERVICE=shop):
#   docker build --build-arg SERVICE=order --tag shopstream/order .
# A change of one service builds its bundle anew, in seconds; what is installed is kept until package-lock.json changes.
ARG NODE_IMAGE=node:24-slim

# What says which packages are needed, alone: what comes of it is kept while nothing but code changes.
FROM ${NODE_IMAGE} AS manifests
WORKDIR /shop
COPY . .
RUN mkdir /manifests && cp --parents $(find . -name package.json) package-lock.json .npmrc /manifests/

FROM ${NODE_IMAGE} AS installed
WORKDIR /shop
COPY --from=manifests /manifests ./
RUN npm ci --loglevel=error

FROM installed AS built
COPY . .
ARG SERVICE
RUN case "$SERVICE" in \
      shop) node tools/src/commands/build.ts tools --entry src/commands/shop.ts --installed --out /app ;; \
      *) node tools/src/commands/build.ts "services/$SERVICE" --installed --out /app ;; \
    esac

FROM ${NODE_IMAGE}
ARG SERVICE
ARG REVISION=unknown
LABEL org.opencontainers.image.title="shopstream ${SERVICE}" \
      org.opencontainers.image.source="https://github.com/shopstream/shopstream" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}"
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080 MALLOC_ARENA_MAX=1
WORKDIR /app
COPY infra/container/health.mjs /app/
COPY --from=built /app /app
# A user without a name or a home, who owns nothing: the root file system may be read-only.
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["node", "/app/health.mjs"]
# The sizes that the benchmarks were measured with; node is process 1, and main.js ends on SIGTERM.
ENTRYPOINT ["node", "--enable-source-maps", "--max-semi-space-size=16", "--max-old-space-size=192", "/app/main.js"]
