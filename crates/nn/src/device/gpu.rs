//! The GPUs of this machine, through wgpu: Vulkan, Metal or DirectX 12.

use std::sync::Arc;

use burn::backend::{CubeDevice, DispatchDevice, WgpuDeviceKind};
use burn::tensor::{Device, DeviceType, Tensor};

use super::failure::{DeviceError, caught, without_backtrace};
use crate::engine::Engine;
use crate::gpu::Gpu;

/// Opens the GPU of this number, or the first, and lets it compute something; what it calls itself. Software that passes for a GPU
/// is only opened if that is wanted.
pub(super) fn open(
    index: Option<usize>,
    software: bool,
) -> Result<(Arc<dyn Engine>, String), DeviceError> {
    // A loader of drivers that fails has no adapters.
    let mut adapters: Vec<Device> = caught(|| Device::enumerate(DeviceType::Wgpu))
        .map_or_else(|_| Vec::new(), |devices| devices.into_iter().collect());
    adapters.sort_by_key(|adapter| kind(adapter).0);
    let all = adapters.len();
    if !software {
        adapters.retain(|adapter| kind(adapter).1 != SOFTWARE);
    }
    let label = |index: usize| format!("gpu:{index} ({})", kind(&adapters[index]).1);
    if adapters.is_empty() {
        let only_software = all > 0;
        return Err(DeviceError::NoGpu { only_software });
    }
    let wanted = index.unwrap_or(0);
    let Some(device) = adapters.get(wanted) else {
        let available = (0..adapters.len()).map(label).collect();
        return Err(DeviceError::NoSuchGpu { wanted, available });
    };
    let unusable = |reason: String| DeviceError::Unusable {
        adapter: label(wanted),
        reason,
    };
    let tried = caught(|| {
        let name = device.identity().map(|identity| identity.name);
        let doubled = Tensor::<1>::from_data([1.0f32, 2.0], device).mul_scalar(2.0);
        (name, doubled.into_data().iter::<f32>().collect::<Vec<_>>())
    });
    match tried {
        Ok((name, numbers)) if numbers == [2.0, 4.0] => {
            let name = name.unwrap_or_else(|| kind(device).1.to_string());
            let engine = Arc::new(Gpu::new(device.clone()));
            Ok((engine, format!("{name} (gpu:{wanted})")))
        }
        Ok((_, numbers)) => Err(unusable(format!("twice 1 and 2 are {numbers:?} to it"))),
        Err(said) => Err(unusable(
            said.first()
                .map_or_else(String::new, |text| without_backtrace(text)),
        )),
    }
}

const SOFTWARE: &str = "software";

/// The order in which adapters are preferred, and their kinds in words.
fn kind(device: &Device) -> (usize, &'static str) {
    let DispatchDevice::Cube(CubeDevice::Wgpu(device)) = device.as_dispatch() else {
        return (5, "unknown");
    };
    match device.kind {
        WgpuDeviceKind::DiscreteGpu(_) => (0, "discrete"),
        WgpuDeviceKind::IntegratedGpu(_) => (1, "integrated"),
        WgpuDeviceKind::VirtualGpu(_) => (2, "virtual"),
        WgpuDeviceKind::Cpu => (4, SOFTWARE),
        _ => (3, "unknown"),
    }
}
