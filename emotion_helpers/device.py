"""What this machine trains on."""
import torch


def find_device() -> tuple[str, str]:
    """("cuda" | "mps" | "bf16" | "cpu", the same in words); bf16 is a CPU that multiplies bfloat16 numbers in hardware."""
    if torch.cuda.is_available():
        return "cuda", f"CUDA, {torch.cuda.get_device_name()}"
    if torch.backends.mps.is_available():
        return "mps", "Apple GPU"
    able = getattr(torch.cpu, "get_capabilities", dict)()
    if able.get("amx_bf16") or able.get("avx512_bf16"):
        return "bf16", f"CPU with bfloat16, {torch.get_num_threads()} threads"
    return "cpu", f"CPU, {torch.get_num_threads()} threads"
