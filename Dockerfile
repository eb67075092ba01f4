# One image for each service, and one for the operators' program (SERVICE=shop):
#   docker build --build-arg SERVICE=order --tag shopstream/order .
# A change of one service builds its bundle anew, in seconds; what is installed is kept until package-lock.json changes.
ARG NODE_IMAGE=node:24-slim

FROM ${NODE_IMAGE} AS installed
WORKDIR /shop
COPY package.json package-lock.json .npmrc ./
# A test holds this list against the workspace's packages.
COPY libs/config/package.json libs/config/
COPY libs/database/package.json libs/database/
COPY libs/events/package.json libs/events/
COPY libs/http/package.json libs/http/
COPY libs/local-servers/package.json libs/local-servers/
COPY libs/messaging/package.json libs/messaging/
COPY libs/observability/package.json libs/observability/
COPY libs/testing/package.json libs/testing/
COPY services/gateway/package.json services/gateway/
COPY services/inventory/package.json services/inventory/
COPY services/notification/package.json services/notification/
COPY services/order/package.json services/order/
COPY services/user/package.json services/user/
COPY tools/package.json tools/
RUN npm ci --loglevel=error

FROM installed AS built
COPY tsconfig.base.json ./
COPY libs libs
COPY schemas schemas
COPY tools tools
COPY services services
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
# A user without a name, a home or a right to write anywhere: the root file system may be read-only.
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["node", "/app/health.mjs"]
# The sizes that the benchmarks were measured with; node is process 1, and main.js ends on SIGTERM.
ENTRYPOINT ["node", "--enable-source-maps", "--max-semi-space-size=16", "--max-old-space-size=192", "/app/main.js"]
