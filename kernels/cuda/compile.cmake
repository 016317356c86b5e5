# cmake -D NVCC= SOURCE= OUTPUT= DEPFILE= ARCHITECTURES= INCLUDES= CACHE= OPTIONS= -P compile.cmake: compiles one .cu file into a fat binary.
#
# Compiling for every GPU takes long, and the same files are compiled for several build directories (gcc, clang, sanitizers). So results
# are kept in CACHE, named by a hash of everything that goes in: options, compiler, every file that is included. Nothing in there is ever
# wrong; all of it may be deleted at any time.
#
# A source file may add options of its own in lines that start with "// nvcc: ", such as -fmad=true.
cmake_minimum_required(VERSION 3.25)
get_filename_component(name ${SOURCE} NAME_WE)
separate_arguments(ARCHITECTURES)
separate_arguments(INCLUDES)
separate_arguments(OPTIONS)
list(SORT ARCHITECTURES COMPARE NATURAL)

# The arithmetic is the host device's, bit by bit, so nothing is contracted. The rest (subnormal numbers, division, roots) is nvcc's default.
set(options -std=c++17 -O3 -fmad=false --compress-mode=size -Werror all-warnings -Wno-deprecated-gpu-targets ${OPTIONS})
foreach(directory ${INCLUDES})
  list(APPEND options -I ${directory})
endforeach()
file(STRINGS ${SOURCE} extra REGEX "^// nvcc: ")
foreach(line ${extra})
  string(REGEX REPLACE "^// nvcc: +" "" line "${line}")
  separate_arguments(line)
  if("${line}" MATCHES "-fmad=")
    list(REMOVE_ITEM options -fmad=false)
  endif()
  list(APPEND options ${line})
endforeach()
set(codes "")
foreach(architecture ${ARCHITECTURES})
  if(codes STREQUAL "")
    list(APPEND codes -gencode "arch=compute_${architecture},code=[sm_${architecture},compute_${architecture}]")
  else()
    list(APPEND codes -gencode "arch=compute_${architecture},code=sm_${architecture}")
  endif()
endforeach()

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE failed)
  if(failed)
    file(REMOVE ${OUTPUT})
    message(FATAL_ERROR "nvcc failed on ${SOURCE}")
  endif()
endfunction()

list(GET ARCHITECTURES 0 lowest)
run(${NVCC} ${options} -arch=compute_${lowest} -M -MT ${OUTPUT} -MF ${DEPFILE} ${SOURCE})

set(kept "")
if(NOT CACHE STREQUAL "")
  execute_process(COMMAND ${NVCC} --version OUTPUT_VARIABLE version)
  set(ingredients "${version} ${options} ${codes}")
  file(READ ${DEPFILE} inputs)
  string(REGEX REPLACE "^[^:]*:" "" inputs "${inputs}")
  string(REGEX REPLACE "[\\\n ]+" ";" inputs "${inputs}")
  list(REMOVE_ITEM inputs "")
  list(SORT inputs)
  foreach(input ${inputs})
    file(SHA256 ${input} sum)
    string(APPEND ingredients " ${sum}")
  endforeach()
  string(SHA256 key "${ingredients}")
  set(kept ${CACHE}/${name}-${key}.fatbin)
  if(EXISTS ${kept})
    configure_file(${kept} ${OUTPUT} COPYONLY)
    file(TOUCH_NOCREATE ${OUTPUT})
    return()
  endif()
endif()

run(${NVCC} ${options} ${codes} -fatbin -o ${OUTPUT} ${SOURCE})

# Renamed into place: several builds may be at it at once.
if(NOT kept STREQUAL "")
  string(RANDOM LENGTH 12 suffix)
  file(MAKE_DIRECTORY ${CACHE})
  configure_file(${OUTPUT} ${kept}.${suffix} COPYONLY)
  file(RENAME ${kept}.${suffix} ${kept})
endif()
