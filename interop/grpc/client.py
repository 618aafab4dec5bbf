"""gRPC's interop cases on grpcio: `client.py HOST:PORT`.

Writes a line `passed CASE` or `failed CASE: why` for each.
"""

import queue
import sys

import grpc

messages, services = grpc.protos_and_services("interop.proto")

SENT = [27182, 8, 1828, 45904]
RECEIVED = [31415, 9, 2653, 58979]
DEADLINE = 20
UNKNOWN = 2
MESSAGE = "test status message"
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
INITIAL = ("x-grpc-test-echo-initial", "test_initial_metadata_value")
TRAILING = ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab")


class Queue:
    """Messages to be sent one at a time, until it is closed."""

    def __init__(self):
        self.waiting = queue.Queue()

    def send(self, message):
        self.waiting.put(message)

    def close(self):
        self.waiting.put(None)

    def __iter__(self):
        return iter(self.waiting.get, None)


def payload(size):
    return messages.Payload(body=bytes(size))


def wish(size, sent=0, interval_us=0):
    parameters = messages.ResponseParameters(size=size, interval_us=interval_us)
    return messages.StreamingOutputCallRequest(
        response_parameters=[parameters], payload=payload(sent)
    )


def equal(what, found, expected):
    if found != expected:
        raise AssertionError(f"{what}: {found!r} instead of {expected!r}")


def zeros(answer, size):
    equal("length", len(answer.payload.body), size)
    equal("bytes that are not 0", answer.payload.body.strip(b"\0"), b"")


def fails_with(code, act):
    """The error that `act` ends with."""
    try:
        act()
    except grpc.RpcError as error:
        equal("code", error.code(), code)
        return error
    raise AssertionError(f"it succeeded instead of {code}")


def empty_unary(stub):
    equal("answer", stub.EmptyCall(messages.Empty(), timeout=DEADLINE), messages.Empty())


def large_unary(stub):
    request = messages.SimpleRequest(response_size=314159, payload=payload(271828))
    zeros(stub.UnaryCall(request, timeout=DEADLINE), 314159)


def client_streaming(stub):
    requests = (messages.StreamingInputCallRequest(payload=payload(size)) for size in SENT)
    answer = stub.StreamingInputCall(requests, timeout=DEADLINE)
    equal("sum", answer.aggregated_payload_size, sum(SENT))


def server_streaming(stub):
    parameters = [messages.ResponseParameters(size=size) for size in RECEIVED]
    request = messages.StreamingOutputCallRequest(response_parameters=parameters)
    answers = list(stub.StreamingOutputCall(request, timeout=DEADLINE))
    equal("answers", len(answers), len(RECEIVED))
    for answer, size in zip(answers, RECEIVED):
        zeros(answer, size)


def ping_pong(stub):
    requests = Queue()
    answers = stub.FullDuplexCall(iter(requests), timeout=DEADLINE)
    for sent, received in zip(SENT, RECEIVED):
        requests.send(wish(received, sent))
        zeros(next(answers), received)
    requests.close()
    equal("what is left", list(answers), [])


def empty_stream(stub):
    equal("answers", list(stub.FullDuplexCall(iter(()), timeout=DEADLINE)), [])


def cancel_after_begin(stub):
    requests = Queue()
    call = stub.StreamingInputCall.future(iter(requests), timeout=DEADLINE)
    call.cancel()
    equal("is cancelled", call.cancelled(), True)
    equal("code", call.code(), grpc.StatusCode.CANCELLED)
    requests.close()


def cancel_after_first_response(stub):
    requests = Queue()
    call = stub.FullDuplexCall(iter(requests), timeout=DEADLINE)
    requests.send(wish(RECEIVED[0], SENT[0]))
    zeros(next(call), RECEIVED[0])
    call.cancel()
    fails_with(grpc.StatusCode.CANCELLED, lambda: next(call))
    requests.close()


def cancel_while_server_works(stub):
    """None of gRPC's cases: the only one of which the server surely hears."""
    asked = messages.StreamingOutputCallRequest(
        response_parameters=[
            messages.ResponseParameters(size=RECEIVED[0]),
            messages.ResponseParameters(size=RECEIVED[0], interval_us=5_000_000),
        ]
    )
    call = stub.StreamingOutputCall(asked, timeout=DEADLINE)
    zeros(next(call), RECEIVED[0])
    call.cancel()
    fails_with(grpc.StatusCode.CANCELLED, lambda: next(call))


def timeout_on_sleeping_server(stub):
    requests = Queue()
    call = stub.FullDuplexCall(iter(requests), timeout=0.001)
    requests.send(wish(RECEIVED[0], SENT[0], interval_us=100_000))
    fails_with(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: next(call))
    requests.close()


def custom_metadata(stub):
    sent = (INITIAL, TRAILING)
    unary = messages.SimpleRequest(response_size=314159, payload=payload(271828))
    _, call = stub.UnaryCall.with_call(unary, metadata=sent, timeout=DEADLINE)
    check_metadata(call)
    streamed = stub.FullDuplexCall(
        iter([wish(314159, 271828)]), metadata=sent, timeout=DEADLINE
    )
    zeros(next(streamed), 314159)
    equal("what is left", list(streamed), [])
    check_metadata(streamed)


def check_metadata(call):
    for received, (name, value) in (
        (call.initial_metadata(), INITIAL),
        (call.trailing_metadata(), TRAILING),
    ):
        values = [found for key, found in received if key == name]
        equal(name, values, [value])


def status_code_and_message(stub):
    status = messages.EchoStatus(code=UNKNOWN, message=MESSAGE)
    unary = messages.SimpleRequest(response_status=status)
    streamed = messages.StreamingOutputCallRequest(response_status=status)
    for act in (
        lambda: stub.UnaryCall(unary, timeout=DEADLINE),
        lambda: list(stub.FullDuplexCall(iter([streamed]), timeout=DEADLINE)),
    ):
        error = fails_with(grpc.StatusCode.UNKNOWN, act)
        equal("message", error.details(), MESSAGE)


def special_status_message(stub):
    status = messages.EchoStatus(code=UNKNOWN, message=SPECIAL)
    request = messages.SimpleRequest(response_status=status)
    error = fails_with(
        grpc.StatusCode.UNKNOWN, lambda: stub.UnaryCall(request, timeout=DEADLINE)
    )
    equal("message", error.details(), SPECIAL)


def unimplemented_method(stub):
    absent(stub, "/grpc.testing.TestService/UnimplementedCall")


def unimplemented_service(stub):
    absent(stub, "/grpc.testing.UnimplementedService/UnimplementedCall")


def absent(stub, method):
    call = stub.channel.unary_unary(
        method,
        request_serializer=messages.Empty.SerializeToString,
        response_deserializer=messages.Empty.FromString,
    )
    fails_with(
        grpc.StatusCode.UNIMPLEMENTED, lambda: call(messages.Empty(), timeout=DEADLINE)
    )


CASES = [
    empty_unary,
    large_unary,
    client_streaming,
    server_streaming,
    ping_pong,
    empty_stream,
    cancel_after_begin,
    cancel_after_first_response,
    cancel_while_server_works,
    timeout_on_sleeping_server,
    custom_metadata,
    status_code_and_message,
    special_status_message,
    unimplemented_method,
    unimplemented_service,
]


def main():
    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = services.TestServiceStub(channel)
        stub.channel = channel
        for case in CASES:
            try:
                case(stub)
                print("passed", case.__name__, flush=True)
            except (AssertionError, grpc.RpcError, StopIteration) as error:
                why = " ".join(str(error).split())
                print(f"failed {case.__name__}: {type(error).__name__} {why}", flush=True)


main()
