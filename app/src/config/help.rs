//! The settings, as the commands' help lists them.

/// What `serve` reads, for its help.
pub const SERVE_SETTINGS: &str = "\
Settings (environment):
  DATABASE_URL               postgres://user@host/name or sqlite://path (required)
  DATABASE_MAX_CONNECTIONS   connections to it, kept open [8]
  SALE_NAME                  the sale that the database belongs to; another sale's is refused [default]
  REDIS_NODES                host:port of each node, separated by commas (required)
  REDIS_PASSWORD             password of every node
  USE_REDLOCK                true: a quorum of all nodes; false: the first node only [true]
  LOCK_TIMEOUT_SECONDS       lease time of the lock, more than twice LOCK_NODE_TIMEOUT_SECONDS [5]
  LOCK_LONGEST_LEASE_SECONDS the longest of any product, the same for all replicas: for so long a
                             Redis node that restarted does not vote [LOCK_TIMEOUT_SECONDS]
  LOCK_WAIT_SECONDS          how long a purchase waits for the lock [2]
  LOCK_NODE_TIMEOUT_SECONDS  how long one node may take to answer [0.05]
  LOCK_ORDER                 Fair: first come, first served, over all replicas;
                             Unordered: whoever gets the lock [Unordered]
  STRATEGY                   Locked: one transaction in the database decides, under the lock;
                             Atomic: one script in Redis does, and the database follows [Locked]
  COMPARE_SECONDS            how often the stock on the nodes is compared with the database [60]
  LOAD_SECONDS               how often products that a node lacks are loaded [300]
  JWT_SECRET                 key that signs tokens, at least 32 bytes (required)
  JWT_ACCEPTED_SECRET        another key whose tokens are accepted: the next or the last one, while
                             JWT_SECRET is changed
  JWKS_FILE                  public keys of the shop's identity provider (EdDSA, ES256, RS256); read
                             again when it changes
  JWKS_ISSUER                what its tokens must have in `iss`
  JWKS_AUDIENCE              what they must have in `aud`
  TRUSTED_PROXIES            proxies in front that each add the client to X-Forwarded-For or Forwarded;
                             log-ins, sign-ups and listeners are limited by that address [0]
  SALE_STARTS_AT             RFC 3339, until 9999-12-30T22:00:00Z; purchases before it are refused
  SALE_ENDS_AT               the same; purchases from it on are refused
  EVENT_LISTENERS            how many may follow the stock by events at a time [5000]
  EVENT_LISTENERS_PER_ADDRESS  how many of them from one address, or one IPv6 network of 64 bits
                             [a tenth of EVENT_LISTENERS, at least 2]
  CORS_ALLOWED_ORIGINS       origins whose pages may call the API, as https://shop.example, separated
                             by commas; * for all [none]
  LISTEN                     address of the API; [::] is IPv6 and IPv4, or IPv4 alone where the
                             system has no IPv6 [[::]:8080]
  METRICS_LISTEN             address of metrics and probes, likewise [[::]:9090]
  HTTP_MAX_CONNECTIONS       open at a time; one more is refused with 503 [10000]
  HTTP_HEADER_TIMEOUT_SECONDS  for the whole header of a request, from its first byte [10]
  HTTP_BODY_TIMEOUT_SECONDS  for the whole body [20]
  HTTP_IDLE_TIMEOUT_SECONDS  how long a connection may stand still between requests [75]
  LOG_FORMAT                 text or json [text]
  RUST_LOG                   log filter [info]";

/// What `seed` reads, for its help.
pub const SEED_SETTINGS: &str = "\
Settings (environment): those of serve for database and lock, and
  CATALOG_FILE               JSON: {\"products\": [{\"id\": \"1\", \"name\": \"Console\", \"stock\": 100}]};
                             optional per product: max_per_buyer, wait_timeout_ms, lease_time_ms (required)
  ADMIN_ID, ADMIN_PASSWORD   the administrator's account: made if absent, else given this password
  DATABASE_ID                the database must be this one, as /sale names it; absent: any
  SEED_TIMEOUT_SECONDS       how long to wait for database and quorum [120]";
