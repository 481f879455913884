// Prints the checksums of checksum.wasm, whose path is the argument.
const fs = require("fs");

WebAssembly.instantiate(fs.readFileSync(process.argv[2])).then(({ instance: { exports: wasm } }) => {
    for (let method = 0; method < wasm.cases(); method++) {
        let name = "", byte;
        while ((byte = wasm.name_byte(method, name.length))) name += String.fromCharCode(byte);
        const checksum = BigInt.asUintN(64, wasm.checksum(method)).toString(16).padStart(16, "0");
        console.log(`${name}: ${checksum}, denormals: ${wasm.denormals(method)}`);
    }
});
