"""natsvc runs and calls NATS services (ADR-32) from asyncio, from trio and from blocking threads.

This module has the names that every front-end shares. The front-ends are `natsvc.asyncio` and, with the same names,
those for other worlds; each re-exports what is here, so that one import line serves.
"""

from typing import TYPE_CHECKING

from natsvc.errors import (
    AuthorizationError,
    ConfigError,
    ConnectionClosedError,
    ConnectionLostError,
    HeaderError,
    InvalidAnswerError,
    MaxPayloadError,
    NatsvcError,
    NoReplyError,
    NoRespondersError,
    NoServersError,
    OutboundBufferError,
    PermissionsError,
    ProtocolError,
    RequestTimeoutError,
    ServerError,
    ServiceError,
    ServiceStoppedError,
    SlowConsumerError,
    StaleConnectionError,
    SubjectError,
    SubscriptionClosedError,
)
from natsvc.headers import ERROR_CODE_HEADER, ERROR_HEADER, Headers
from natsvc.message import Message
from natsvc.on_demand import on_demand

if TYPE_CHECKING:
    from natsvc.core import (
        DEFAULT_PREFIX,
        DEFAULT_QUEUE_GROUP,
        INFO_RESPONSE_TYPE,
        NO_QUEUE_GROUP,
        PING_RESPONSE_TYPE,
        STATS_RESPONSE_TYPE,
        Endpoint,
        EndpointConfig,
        EndpointInfo,
        EndpointStats,
        ErrorCodes,
        GroupConfig,
        Handler,
        Middleware,
        ServiceConfig,
        ServiceDefinition,
        ServiceInfo,
        ServicePing,
        ServiceStats,
        ServiceVerb,
        control_subject,
        with_error_handling,
    )

__version__ = "0.1.0.dev0"

__all__ = [
    "DEFAULT_PREFIX",
    "DEFAULT_QUEUE_GROUP",
    "ERROR_CODE_HEADER",
    "ERROR_HEADER",
    "INFO_RESPONSE_TYPE",
    "NO_QUEUE_GROUP",
    "PING_RESPONSE_TYPE",
    "STATS_RESPONSE_TYPE",
    "AuthorizationError",
    "ConfigError",
    "ConnectionClosedError",
    "ConnectionLostError",
    "Endpoint",
    "EndpointConfig",
    "EndpointInfo",
    "EndpointStats",
    "ErrorCodes",
    "GroupConfig",
    "Handler",
    "HeaderError",
    "Headers",
    "InvalidAnswerError",
    "MaxPayloadError",
    "Message",
    "Middleware",
    "NatsvcError",
    "NoReplyError",
    "NoRespondersError",
    "NoServersError",
    "OutboundBufferError",
    "PermissionsError",
    "ProtocolError",
    "RequestTimeoutError",
    "ServerError",
    "ServiceConfig",
    "ServiceDefinition",
    "ServiceError",
    "ServiceInfo",
    "ServicePing",
    "ServiceStats",
    "ServiceStoppedError",
    "ServiceVerb",
    "SlowConsumerError",
    "StaleConnectionError",
    "SubjectError",
    "SubscriptionClosedError",
    "control_subject",
    "with_error_handling",
]

if not TYPE_CHECKING:
    # Whoever only connects needs nothing of what services are made of.
    __getattr__, __dir__ = on_demand(__name__, {"natsvc.core": [name for name in __all__ if name not in globals()]})
