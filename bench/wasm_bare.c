/* Wasmtime and nothing else: wasm_bare LIBRARY COMPILED runs a compiled program to its end. What a start cannot be below. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

#define USE(result, name, ...) result (*name)(__VA_ARGS__) = (result(*)(__VA_ARGS__))dlsym(library, #name)

struct function {
    uint8_t kind;
    struct {
        uint64_t store;
        void *place;
    } of;
    char room[64];
};
struct instance {
    uint64_t store;
    size_t place;
};

int main(int argc, char **argv) {
    void *library = argc == 3 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (library == NULL)
        return 2;
    USE(void *, wasm_engine_new, void);
    USE(void *, wasmtime_module_deserialize_file, void *, const char *, void **);
    USE(void *, wasmtime_store_new, void *, void *, void *);
    USE(void *, wasmtime_store_context, void *);
    USE(void *, wasi_config_new, void);
    USE(_Bool, wasi_config_set_argv, void *, size_t, const char **);
    USE(void, wasi_config_inherit_stdout, void *);
    USE(void *, wasmtime_context_set_wasi, void *, void *);
    USE(void *, wasmtime_linker_new, void *);
    USE(void *, wasmtime_linker_define_wasi, void *);
    USE(void *, wasmtime_linker_instantiate, void *, void *, void *, struct instance *, void **);
    USE(_Bool, wasmtime_instance_export_get, void *, struct instance *, const char *, size_t, struct function *);
    USE(void *, wasmtime_func_call, void *, void *, void *, size_t, void *, size_t, void **);

    void *engine = wasm_engine_new(), *module = NULL, *trap = NULL, *wasi = wasi_config_new();
    const char *arguments[] = {"program.wasm"};
    if (wasmtime_module_deserialize_file(engine, argv[2], &module))
        return 3;
    void *context = wasmtime_store_context(wasmtime_store_new(engine, NULL, NULL)), *linker = wasmtime_linker_new(engine);
    wasi_config_set_argv(wasi, 1, arguments);
    wasi_config_inherit_stdout(wasi);
    struct instance instance;
    struct function start;
    if (wasmtime_context_set_wasi(context, wasi) || wasmtime_linker_define_wasi(linker) ||
        wasmtime_linker_instantiate(linker, context, module, &instance, &trap) || trap)
        return 4;
    if (!wasmtime_instance_export_get(context, &instance, "_start", 6, &start))
        return 5;
    return wasmtime_func_call(context, &start.of, NULL, 0, NULL, 0, &trap) || trap ? 6 : 0;
}
