"""What this machine trains on."""
import torch


def find_device() -> tuple[str, str]:
    """("cuda" | "mps" | "amx" | "cpu", the same in words); amx is a CPU that multiplies bfloat16 matrices in hardware."""
    if torch.cuda.is_available():
        return "cuda", f"CUDA, {torch.cuda.get_device_name()}"
    if torch.backends.mps.is_available():
        return "mps", "Apple GPU"
    if getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16"):
        return "amx", f"CPU with AMX, {torch.get_num_threads()} threads"
    return "cpu", f"CPU, {torch.get_num_threads()} threads"
