"""One service instance as a state machine, without I/O.

Front-ends hand in what happens (a message came, a handler ended, the time is now T) and do what comes out. All rules of
a service are here: configuration, subjects, admission, timeouts, errors, sizes, stats, control answers, the stop.
"""

from typing import TYPE_CHECKING

from natsvc.on_demand import on_demand

if TYPE_CHECKING:
    from natsvc.core.calling import REQUEST_TIMEOUT, check_duration, checked_reply, service_error
    from natsvc.core.config import (
        DEFAULT_QUEUE_GROUP,
        NO_QUEUE_GROUP,
        EndpointConfig,
        GroupConfig,
        Handler,
        Middleware,
        NoQueueGroup,
        ServiceConfig,
        configure,
        endpoint_decorator,
    )
    from natsvc.core.control import ControlState
    from natsvc.core.definition import GroupDefinition, ServiceDefinition, definition_of
    from natsvc.core.ending import EndingReason
    from natsvc.core.endpoint import EndpointState
    from natsvc.core.gathering import GATHER_STALL, GATHER_TIMEOUT, Answer, Gathering
    from natsvc.core.handlers import ErrorCodes, compose, is_async, with_error_handling
    from natsvc.core.models import (
        INFO_RESPONSE_TYPE,
        PING_RESPONSE_TYPE,
        STATS_RESPONSE_TYPE,
        EndpointInfo,
        EndpointStats,
        ServiceInfo,
        ServicePing,
        ServiceStats,
    )
    from natsvc.core.ready import AwaitableSelf, Done
    from natsvc.core.replies import Data, Reply, ReplyHeaders, encode_json
    from natsvc.core.request import BaseRequest, RequestState, current_request
    from natsvc.core.scope import Endpoint, Scope
    from natsvc.core.service import STOP_TIMEOUT, Lifecycle, Server, ServiceState
    from natsvc.core.streaming import ReplyStream
    from natsvc.core.subjects import DEFAULT_PREFIX, ServiceVerb, control_subject
    from natsvc.core.view import RepliesView, ServiceView
    from natsvc.headers import ERROR_CODE_HEADER, ERROR_HEADER
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "natsvc.core.calling": ["REQUEST_TIMEOUT", "check_duration", "checked_reply", "service_error"],
            "natsvc.core.config": [
                "DEFAULT_QUEUE_GROUP",
                "NO_QUEUE_GROUP",
                "EndpointConfig",
                "GroupConfig",
                "Handler",
                "Middleware",
                "NoQueueGroup",
                "ServiceConfig",
                "configure",
                "endpoint_decorator",
            ],
            "natsvc.core.control": ["ControlState"],
            "natsvc.core.definition": ["GroupDefinition", "ServiceDefinition", "definition_of"],
            "natsvc.core.ending": ["EndingReason"],
            "natsvc.core.endpoint": ["EndpointState"],
            "natsvc.core.gathering": ["GATHER_STALL", "GATHER_TIMEOUT", "Answer", "Gathering"],
            "natsvc.core.handlers": ["ErrorCodes", "compose", "is_async", "with_error_handling"],
            "natsvc.core.models": [
                "INFO_RESPONSE_TYPE",
                "PING_RESPONSE_TYPE",
                "STATS_RESPONSE_TYPE",
                "EndpointInfo",
                "EndpointStats",
                "ServiceInfo",
                "ServicePing",
                "ServiceStats",
            ],
            "natsvc.core.ready": ["AwaitableSelf", "Done"],
            "natsvc.core.replies": ["Data", "Reply", "ReplyHeaders", "encode_json"],
            "natsvc.core.request": ["BaseRequest", "RequestState", "current_request"],
            "natsvc.core.scope": ["Endpoint", "Scope"],
            "natsvc.core.service": ["STOP_TIMEOUT", "Lifecycle", "Server", "ServiceState"],
            "natsvc.core.streaming": ["ReplyStream"],
            "natsvc.core.subjects": ["DEFAULT_PREFIX", "ServiceVerb", "control_subject"],
            "natsvc.core.view": ["RepliesView", "ServiceView"],
            "natsvc.headers": ["ERROR_CODE_HEADER", "ERROR_HEADER"],
        },
    )

__all__ = [
    "DEFAULT_PREFIX",
    "DEFAULT_QUEUE_GROUP",
    "ERROR_CODE_HEADER",
    "ERROR_HEADER",
    "GATHER_STALL",
    "GATHER_TIMEOUT",
    "INFO_RESPONSE_TYPE",
    "NO_QUEUE_GROUP",
    "PING_RESPONSE_TYPE",
    "REQUEST_TIMEOUT",
    "STATS_RESPONSE_TYPE",
    "STOP_TIMEOUT",
    "Answer",
    "AwaitableSelf",
    "BaseRequest",
    "ControlState",
    "Data",
    "Done",
    "EndingReason",
    "Endpoint",
    "EndpointConfig",
    "EndpointInfo",
    "EndpointState",
    "EndpointStats",
    "ErrorCodes",
    "Gathering",
    "GroupConfig",
    "GroupDefinition",
    "Handler",
    "Lifecycle",
    "Middleware",
    "NoQueueGroup",
    "RepliesView",
    "Reply",
    "ReplyHeaders",
    "ReplyStream",
    "RequestState",
    "Scope",
    "Server",
    "ServiceConfig",
    "ServiceDefinition",
    "ServiceInfo",
    "ServicePing",
    "ServiceState",
    "ServiceStats",
    "ServiceVerb",
    "ServiceView",
    "check_duration",
    "checked_reply",
    "compose",
    "configure",
    "control_subject",
    "current_request",
    "definition_of",
    "encode_json",
    "endpoint_decorator",
    "is_async",
    "service_error",
    "with_error_handling",
]
