"""gRPC's interop service on grpcio: `server.py PORT`.

What it notices of calls that the client gave up it writes to its output, a line
`cancelled METHOD` each.
"""

import sys
import time
from concurrent import futures

import grpc

messages, services = grpc.protos_and_services("interop.proto")

INITIAL = "x-grpc-test-echo-initial"
TRAILING = "x-grpc-test-echo-trailing-bin"


def payload(size):
    return messages.Payload(body=bytes(size))


def echo_metadata(context):
    sent = dict(context.invocation_metadata())
    if INITIAL in sent:
        context.send_initial_metadata([(INITIAL, sent[INITIAL])])
    if TRAILING in sent:
        context.set_trailing_metadata([(TRAILING, sent[TRAILING])])


def end_as_asked(context, status):
    if status.code:
        code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        context.abort(code, status.message)


class Watched:
    """Tells when a call ends before the server is done with it.

    Only of use where the server does not read requests meanwhile: grpcio may tell the
    loop that reads them of a cancelled call first, as if the client had sent its last.
    """

    def __init__(self, context, method):
        self.done = False
        self.method = method
        context.add_callback(self.ended)

    def ended(self):
        if not self.done:
            print("cancelled", self.method, flush=True)


class TestService(services.TestServiceServicer):
    def EmptyCall(self, request, context):
        return messages.Empty()

    def UnaryCall(self, request, context):
        echo_metadata(context)
        end_as_asked(context, request.response_status)
        return messages.SimpleResponse(payload=payload(request.response_size))

    def StreamingInputCall(self, requests, context):
        total = sum(len(request.payload.body) for request in requests)
        return messages.StreamingInputCallResponse(aggregated_payload_size=total)

    def StreamingOutputCall(self, request, context):
        watched = Watched(context, "StreamingOutputCall")
        yield from self.answers(request)
        watched.done = True

    def FullDuplexCall(self, requests, context):
        echo_metadata(context)
        for request in requests:
            end_as_asked(context, request.response_status)
            yield from self.answers(request)

    def answers(self, request):
        for wanted in request.response_parameters:
            time.sleep(wanted.interval_us / 1e6)
            yield messages.StreamingOutputCallResponse(payload=payload(wanted.size))


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    services.add_TestServiceServicer_to_server(TestService(), server)
    server.add_insecure_port("0.0.0.0:" + sys.argv[1])
    server.start()
    server.wait_for_termination()


main()
