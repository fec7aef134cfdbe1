"""Running workloads: the executor protocol and its backends (``spec/execution.md`` 1, 2).

===================  =================================================================================
``protocol``         what every backend can do: requests, results, statuses, :class:`~.protocol.Executor`
``errors``           the tree of errors
``execution``        what backends share: the table of executions, and what it answers alone
``logs``             reading logs while they grow: from the beginning, the end or a moment on
``detached``         what processes that outlive the daemon share: logs of bounded size (standard library only)
``process``          those processes seen from the daemon: start, find again after a restart, signals
``params``           reading engine parameters: types, sizes, one clear line when they are wrong
``registry``         which backends work on this machine, and why the others do not
``wasm``             WebAssembly: one process per program, from here or from elsewhere
``wasm_params``      … its engine parameters
``wasm_process``     … whether it works here, and its library
``wasm_runner``      … what runs inside such a process (standard library only, as all that follow)
``wasm_engine``      … the engine, the compiled program, what of WASI it sees
``wasm_component``   … how a component runs
``wasm_network``     … the sockets with which a server is started, and its network namespace (seen from the daemon)
``wasm_server``      … a core module that is a server: how its calls about sockets come to us
``wasm_sockets``     … what it can do with sockets
``wasm_poll``        … how it waits for them
``wasm_memory``      … its memory, counted and bounded
``wasm_cache``       … compiled programs on the disk, authenticated
``wasm_abi``         … the part of Wasmtime's C interface that it uses
``docker``           containers of a Docker or Podman engine: a package
``containerd``       parameters of containerd and Kata: understood, and refused
``supervision``      what backends share that run each workload in such a process
``vm``               microVMs: what both kinds of machine share
``vm_machine``       … what is known of one, before and after its start
``vm_params``        … their engine parameters
``vm_runner``        … the process beside each machine (standard library only)
``vm_outputs``       … what the guest left (standard library only)
``vm_member``        … their part in a private network
``vm_network``       … its namespace and device (standard library only)
``dhcp``             … a guest that asks for its address (standard library only)
``console``          … how it talks with the agent in the guest (standard library only)
``initrd``           … the initial RAM disk with that agent, ``guest_agent.sh``
``cpio``             … the archive format of such disks
``machine_files``    … drives, images and users of machines
``cgroup``           … what the host holds their processes to
``qemu``             machines of QEMU
``qmp``              … its monitor protocol
``kvm``              … whether virtualisation truly works (``kvm_guest``: by running a guest)
``firecracker``      machines of Firecracker
``firecracker_api``  … its HTTP interface
``tap``              TAP devices, which give machines a network
``null``             a backend that does nothing, for nodes without one and for tests
===================  =================================================================================

Nothing is imported here: ``wasm_runner`` belongs to this package and must start fast.
"""
