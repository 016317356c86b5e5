#!/usr/bin/env python3
"""trtcoll in processes that use another CUDA runtime: PyTorch's, whose caching allocator owns the buffers and whose streams and graphs run
the plans. One process per GPU; the library is called by ctypes. Exit status 77 without PyTorch, without two GPUs, or without the binaries.

Environment: TRTCOLL_TEST_DAEMON (trtcolld), TRTCOLL_TEST_CLIENT (libtrtcoll-client.so).
"""
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

SKIP = 77
BF16, FP32 = 2, 0
DIRECT, SERVED = 1, 2
GRAPH = 1 << 2
VP, U32, I32, U64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int32, ctypes.c_uint64


class Options(ctypes.Structure):
    _fields_ = [("size", U32), ("device", I32), ("socket_path", ctypes.c_char_p), ("name", ctypes.c_char_p), ("timeout_ms", U32),
                ("watch", U32), ("allocator", VP), ("log", VP), ("log_arg", VP)]


class Desc(ctypes.Structure):
    _fields_ = [("size", U32), ("dtype", U32), ("redop", U32), ("strategy", U32), ("fusion", U32), ("lane", U32), ("flags", U32),
                ("eps", ctypes.c_float), ("max_tokens", U64), ("hidden", U64)]


class Args(ctypes.Structure):
    _fields_ = [("size", U32), ("flags", U32), ("tokens", U64)] + [
        (name, VP) for name in ("input", "out", "residual_in", "residual_out", "norm_weight", "bias", "scale", "quant_out", "scale_out",
                                "in_list", "out_list")]


class PlanInfo(ctypes.Structure):
    _fields_ = [("size", U32), ("plan_id", U32), ("op", U32), ("lane", U32), ("strategy", U32), ("reserved", U32), ("runs", U64),
                ("staged_runs", U64), ("reason", ctypes.c_char * 256), ("device_kind", U32), ("reserved2", U32)]


class Error(ctypes.Structure):
    _fields_ = [("size", U32), ("code", I32), ("rank", U32), ("pid", I32), ("signal", I32), ("device_code", I32), ("step", U64),
                ("mine", U64), ("theirs", U64), ("group", ctypes.c_char * 64), ("field", ctypes.c_char * 64), ("text", ctypes.c_char * 256)]


class Rank:
    """One process' context, group and plans."""

    def __init__(self, socket, rank, ranks):
        import torch
        self.torch, self.rank, self.ranks = torch, rank, ranks
        self.library = ctypes.CDLL(os.environ["TRTCOLL_TEST_CLIENT"])
        torch.cuda.set_device(rank)
        torch.ones(1, device="cuda")  # the runtime is up before trtcoll comes
        options = Options(ctypes.sizeof(Options), rank, socket.encode(), b"torch", 20000)
        self.context, self.group = VP(), VP()
        self.call("trtcoll_ctx_open", ctypes.byref(options), ctypes.byref(self.context))
        self.call("trtcoll_group_create", self.context, b"torch", U32(ranks), U32(rank), U32(60000), ctypes.byref(self.group))

    def call(self, name, *args):
        code = getattr(self.library, name)(*args)
        if code:
            error = Error(ctypes.sizeof(Error))
            self.library.trtcoll_last_error(ctypes.byref(error))
            raise RuntimeError(f"{name}: {code}: {error.text.decode()}")

    def plan(self, dtype, lane, flags, tokens, hidden):
        desc = Desc(ctypes.sizeof(Desc), dtype, 0, 3, 0, lane, flags, 0, tokens, hidden)
        plan = VP()
        self.call("trtcoll_plan_create_all_reduce", self.group, ctypes.byref(desc), ctypes.byref(plan))
        return plan

    def run(self, plan, tokens, tensor, out):
        args = Args(ctypes.sizeof(Args), 0, tokens, tensor.data_ptr(), out.data_ptr())
        stream = VP(self.torch.cuda.current_stream().cuda_stream)
        self.call("trtcoll_plan_run", plan, ctypes.byref(args), stream, None)

    def staged(self, plan):
        info = PlanInfo(ctypes.sizeof(PlanInfo))
        self.call("trtcoll_plan_info", plan, ctypes.byref(info))
        return info.staged_runs

    def expect(self, tensor, step, what):
        want = sum(r + 1 + step for r in range(self.ranks))
        if not bool((tensor == want).all()):
            raise RuntimeError(f"{what}, step {step}: not {want} everywhere but {tensor.flatten()[:4].tolist()}")

    def eager(self, lane, dtype, what, registered):
        """On torch's current stream, between torch's own kernels, in memory that its allocator gave out."""
        torch = self.torch
        kind = torch.float32 if dtype == FP32 else torch.bfloat16
        tokens, hidden = 64, 4096
        plan = self.plan(dtype, lane, 0, tokens, hidden)
        source = torch.empty(tokens, hidden, device="cuda", dtype=kind)
        out = torch.empty_like(source)
        if registered:
            for tensor in (source, out):
                self.call("trtcoll_register", self.context, VP(tensor.data_ptr()), ctypes.c_size_t(tensor.nbytes), -1)
        side = torch.cuda.Stream()
        for step in range(20):
            with torch.cuda.stream(side if step % 2 else torch.cuda.current_stream()):
                source.fill_(self.rank + 1 + step)
                self.run(plan, tokens, source, out)
                doubled = out + out
            torch.cuda.synchronize()
            self.expect(out, step, what)
            self.expect(doubled / 2, step, what)
        staged = self.staged(plan)
        if lane == SERVED and (staged == 0) != registered:
            raise RuntimeError(f"{what}: {staged} of 20 runs were staged")
        if registered:
            for tensor in (source, out):
                self.call("trtcoll_unregister", self.context, VP(tensor.data_ptr()))
        self.call("trtcoll_plan_release", plan)

    def captured(self):
        torch = self.torch
        plan = self.plan(BF16, DIRECT, GRAPH, 16, 8192)
        source = torch.zeros(16, 8192, device="cuda", dtype=torch.bfloat16)
        out = torch.zeros_like(source)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(5):
                self.run(plan, 16, source, out)
            result = out * 2
        for step in range(30):
            source.fill_(self.rank + 1 + step)
            graph.replay()
            torch.cuda.synchronize()
            self.expect(out, step, "captured")
            self.expect(result / 2, step, "captured")
        del graph
        self.call("trtcoll_plan_release", plan)

    def close(self):
        self.torch.cuda.synchronize()
        self.library.trtcoll_ctx_close(self.context)


def rank_main(socket, rank, ranks):
    self = Rank(socket, rank, ranks)
    self.eager(DIRECT, BF16, "direct lane", False)
    self.eager(SERVED, FP32, "served lane, staged", False)
    self.eager(SERVED, BF16, "served lane, registered", True)
    self.captured()
    self.close()


def run(ranks, expandable):
    with tempfile.TemporaryDirectory(prefix="trtcoll-torch-") as folder:
        config = os.path.join(folder, "config.json")
        with open(config, "w", encoding="utf-8") as file:
            json.dump({"runtime_dir": folder, "devices": {"cuda": ranks}, "deadlines": {"operation_ms": 20000}}, file)
        socket = os.path.join(folder, "trtcolld.sock")
        environment = dict(os.environ, CUDA_DEVICE_ORDER="PCI_BUS_ID")
        if expandable:
            environment["PYTORCH_CUDA_ALLOC_CONF"] = environment["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
        with open(os.path.join(folder, "log"), "w", encoding="utf-8") as log:
            daemon = subprocess.Popen([os.environ["TRTCOLL_TEST_DAEMON"], "--config", config], env=environment, stdout=log, stderr=log)
        clients, good = [], False
        try:
            end = time.monotonic() + 20
            while not os.path.exists(socket) and time.monotonic() < end and daemon.poll() is None:
                time.sleep(0.01)
            clients = [subprocess.Popen([sys.executable, __file__, "--rank", socket, str(rank), str(ranks)], env=environment)
                       for rank in range(ranks)]
            end = time.monotonic() + 90
            codes = [client.wait(max(1, end - time.monotonic())) for client in clients]
            good = not any(codes)
            print(f"  {ranks} ranks{', expandable segments' if expandable else ''}: {'good' if good else codes}", flush=True)
        except subprocess.TimeoutExpired:
            print("ERROR: a rank does not end", flush=True)
        finally:
            for client in clients:
                if client.poll() is None:
                    client.kill()
                    client.wait()
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGTERM)
                try:
                    daemon.wait(20)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    good = False
            if not good:
                with open(os.path.join(folder, "log"), encoding="utf-8") as log:
                    print(log.read()[-4000:])
    return good


def main():
    if len(sys.argv) == 5 and sys.argv[1] == "--rank":
        rank_main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return 0
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed")
        return SKIP
    if torch.cuda.device_count() < 2:
        print("no two GPUs")
        return SKIP
    if not os.environ.get("TRTCOLL_TEST_DAEMON") or not os.environ.get("TRTCOLL_TEST_CLIENT"):
        print("TRTCOLL_TEST_DAEMON and TRTCOLL_TEST_CLIENT are not set: use run-all")
        return SKIP
    ranks = min(torch.cuda.device_count(), 4)
    return 0 if all([run(ranks, False), run(ranks, True)]) else 1


if __name__ == "__main__":
    sys.exit(main())
